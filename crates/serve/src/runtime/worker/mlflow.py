"""The class for a model that MLflow has saved: its flavour `python_function`,
with what its signature says of inputs and outputs."""

import importlib
import os

# It would tell its makers of each load.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

try:
    import mlflow
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model
    from mlflow.types import DataType, TensorSpec
except ModuleNotFoundError as error:
    raise RuntimeError("the model's requirements.txt must name mlflow or mlflow-skinny, and pandas: %s" % error) from None
import numpy
import pandas

_DATATYPES = {
    DataType.boolean: "BOOL", DataType.integer: "INT32", DataType.long: "INT64", DataType.float: "FP32",
    DataType.double: "FP64", DataType.string: "BYTES", DataType.datetime: "BYTES",
}
_BY_DTYPE = {
    "b1": "BOOL", "u1": "UINT8", "u2": "UINT16", "u4": "UINT32", "u8": "UINT64", "i1": "INT8", "i2": "INT16",
    "i4": "INT32", "i8": "INT64", "f2": "FP16", "f4": "FP32", "f8": "FP64",
}
# Each in a form of its own, where pandas can be told so.
_TIMES = {"format": "ISO8601"} if int(pandas.__version__.split(".")[0]) >= 2 else {}
# Of what the signature gives no name.
_INPUT, _OUTPUT = "input", "predictions"


def _flavour():
    about = Model.load(os.getcwd()).flavors.get("python_function")
    if about is None:
        raise RuntimeError("MLmodel has no flavour python_function, which is the one that is served")
    return about


# What the model needs is imported before it is loaded.
importlib.import_module(_flavour()["loader_module"])


def _ports(schema, unnamed):
    if schema is None:
        return None
    ports = []
    for spec in schema.inputs:
        if isinstance(spec, TensorSpec):
            kind = numpy.dtype(spec.type)
            datatype = "BYTES" if kind.kind in "OUS" else _BY_DTYPE.get(kind.str[1:])
            shape = [int(n) for n in spec.shape]
        else:
            datatype, shape = _DATATYPES.get(spec.type), [-1]
        name = unnamed if spec.name is None else str(spec.name)
        if datatype is None:
            raise NotImplementedError("not implemented: '%s' of the signature has the type %s" % (name, spec.type))
        ports.append({"name": name, "datatype": datatype, "shape": shape})
    return ports


class Handler:
    def __init__(self, path):
        self.model = mlflow.pyfunc.load_model(path)
        about = self.model.metadata
        self.schema = about.get_input_schema()
        self.inputs = _ports(self.schema, _INPUT)
        self.outputs = _ports(about.get_output_schema(), _OUTPUT)
        self.table = self.schema is not None and not self.schema.is_tensor_spec()
        for name in ("workers", "batches", "retry"):
            said = ((about.metadata or {}).get("muonic") or {}).get(name)
            if said is not None:
                setattr(self, name, said)

    def predict(self, inputs):
        try:
            return _outputs(self.model.predict(self._data(inputs)))
        except MlflowException as error:
            if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise ValueError(error.message) from error
            raise

    def _data(self, inputs):
        if self.schema is None:
            if list(inputs) == [_INPUT]:
                return inputs[_INPUT]
            return pandas.DataFrame({name: list(values) for name, values in inputs.items()})
        if not self.table:
            named = self.schema.has_input_names()
            return inputs if named else inputs[_INPUT]
        # As the signature orders them.
        columns = {}
        for spec, port in zip(self.schema.inputs, self.inputs):
            values = inputs[port["name"]]
            if spec.type == DataType.datetime:
                values = pandas.to_datetime(pandas.Series(values), **_TIMES)
            columns[port["name"] if spec.name is not None else 0] = values
        return pandas.DataFrame(columns)


def _outputs(result):
    if isinstance(result, pandas.DataFrame):
        return {str(name): result[name].to_numpy() for name in result.columns}
    if isinstance(result, dict):
        return {str(name): values for name, values in result.items()}
    if hasattr(result, "toarray"):
        result = result.toarray()
    return {_OUTPUT: result}
