//! The program `dunlin-sim`, also `cargo sim`.

mod cli;
#[path = "explore_cli.rs"]
mod explore;

fn main() -> std::process::ExitCode {
    cli::main()
}
