"""Trains a small neural network on the handwritten digits, with scikit-learn.

Plain SageMaker-style script: it reads SM_CHANNEL_TRAIN, writes model.onnx to
SM_MODEL_DIR and metrics.json to SM_OUTPUT_DATA_DIR, and takes its
hyperparameters from SM_HPS (JSON) or from the command line, which wins. It
runs the same without any server:

    python prepare.py --out data
    SM_CHANNEL_TRAIN=data/train python train.py --epochs 5

Where a channel `test` is given (SM_CHANNEL_TEST), the finished model is scored
on it once, at the end; training never reads it.
"""

import argparse
import json
import os
from pathlib import Path


def parameters() -> argparse.Namespace:
    hps = json.loads(os.environ.get("SM_HPS", "{}"))
    parser = argparse.ArgumentParser(description="Train a digit classifier and write it as ONNX.")
    parser.add_argument("--hidden", type=int, default=hps.get("hidden", 12), help="units of the hidden layer")
    parser.add_argument("--epochs", type=int, default=hps.get("epochs", 6), help="passes over the training images")
    parser.add_argument("--learning-rate", type=float, default=hps.get("learning-rate", 0.002))
    parser.add_argument("--batch", type=int, default=hps.get("batch", 32), help="images per step")
    parser.add_argument("--seed", type=int, default=hps.get("seed", 7))
    parser.add_argument("--train", type=Path, default=Path(os.environ.get("SM_CHANNEL_TRAIN", "data/train")))
    parser.add_argument("--test", type=Path, default=os.environ.get("SM_CHANNEL_TEST"))
    parser.add_argument("--model-dir", type=Path, default=Path(os.environ.get("SM_MODEL_DIR", "model")))
    parser.add_argument("--output-dir", type=Path, default=Path(os.environ.get("SM_OUTPUT_DATA_DIR", "output")))
    return parser.parse_args()


def main() -> None:
    args = parameters()
    # Printed before the slow imports, so that the log shows at once what runs.
    print(f"training: hidden {args.hidden}, epochs {args.epochs}, learning rate {args.learning_rate}", flush=True)

    import numpy as np
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MinMaxScaler
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    def load(folder: Path):
        images = np.load(folder / "images.npy").astype(np.float32)
        labels = np.load(folder / "labels.npy")
        return images, labels

    images, labels = load(args.train)
    print(f"data: {len(labels)} training images from {args.train}", flush=True)

    # The scaler is part of the model: who calls it sends pixels as they are.
    scaler = MinMaxScaler().fit(images)
    scaled = scaler.transform(images)
    network = MLPClassifier(
        hidden_layer_sizes=(args.hidden,),
        learning_rate_init=args.learning_rate,
        batch_size=args.batch,
        random_state=args.seed,
    )
    classes = np.unique(labels)
    metrics = {}
    for epoch in range(1, args.epochs + 1):
        network.partial_fit(scaled, labels, classes=classes)
        metrics = {"loss": float(network.loss_), "accuracy": float(network.score(scaled, labels))}
        print(f"epoch={epoch} loss={metrics['loss']:.4f} accuracy={metrics['accuracy']:.4f}", flush=True)

    model = Pipeline([("scaler", scaler), ("network", network)])
    if args.test:
        test_images, test_labels = load(Path(args.test))
        metrics["test_accuracy"] = float(model.score(test_images, test_labels))
        print(f"test_accuracy={metrics['test_accuracy']:.6f}", flush=True)

    # Without a zipmap the probabilities are a plain n x 10 tensor.
    onnx_model = to_onnx(
        model,
        initial_types=[("images", FloatTensorType([None, images.shape[1]]))],
        options={"zipmap": False},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    args.model_dir.mkdir(parents=True, exist_ok=True)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    # The converter lists operator sets in any order; equal models shall be equal files.
    onnx_model.opset_import.sort(key=lambda opset: opset.domain)
    (args.model_dir / "model.onnx").write_bytes(onnx_model.SerializeToString())
    (args.output_dir / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"saved: {args.model_dir / 'model.onnx'}", flush=True)


if __name__ == "__main__":
    main()
