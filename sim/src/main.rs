//! The program `dunlin-sim`, also `cargo sim`.

mod cli;
#[path = "explore_cli.rs"]
mod explore;
#[path = "see_cli.rs"]
mod see;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
