//! `muonic-shim-alone shim --unit DIR`: what `muonic shim` does, and no more.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.as_slice() {
        [verb, flag, dir] if verb == "shim" && flag == "--unit" => ExitCode::from(muonic_shim::run(dir.as_ref())),
        _ => {
            let _ = writeln!(std::io::stderr(), "use: muonic-shim-alone shim --unit DIR");
            ExitCode::from(2)
        }
    }
}
