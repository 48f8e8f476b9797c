//! The program `dunlin-sim`, also `cargo sim`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
