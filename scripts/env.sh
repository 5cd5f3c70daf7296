# Sourced by setup, demo, test and bench/run, from the root of the repository:
# where things are. With MUONIC_CACHE_DIR set, everything that may be kept from
# one checkout to the next (cargo's registry, what cargo built, pip's
# downloads) lies below it.

if [ -n "${MUONIC_CACHE_DIR:-}" ]; then
    mkdir -p "$MUONIC_CACHE_DIR/cargo" "$MUONIC_CACHE_DIR/pip"
    MUONIC_CACHE_DIR=$(cd "$MUONIC_CACHE_DIR" && pwd)
    old_config=${CARGO_HOME:-${HOME:-}/.cargo}/config.toml
    if [ -f "$old_config" ] && ! [ -e "$MUONIC_CACHE_DIR/cargo/config.toml" ]; then
        cp "$old_config" "$MUONIC_CACHE_DIR/cargo/config.toml"
    fi
    export CARGO_HOME=$MUONIC_CACHE_DIR/cargo
    export CARGO_TARGET_DIR=$MUONIC_CACHE_DIR/target
    export PIP_CACHE_DIR=$MUONIC_CACHE_DIR/pip
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
# Where rustup puts cargo; a shell that was open before does not know it.
if [ -n "${HOME:-}" ] && [ -d "$HOME/.cargo/bin" ]; then PATH=$PATH:$HOME/.cargo/bin; fi

venv_python=$PWD/build/venv/bin/python
target_dir=${CARGO_TARGET_DIR:-target}
case $target_dir in /*) ;; *) target_dir=$PWD/$target_dir ;; esac
export MUONIC_ONNXRUNTIME=$PWD/build/lib/libonnxruntime.so
