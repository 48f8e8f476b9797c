//! The program `dunlin-sim`, also `cargo sim`.

mod cli;
#[cfg(dunlin_planted)]
#[path = "drill_cli.rs"]
mod drill;
#[path = "explore_cli.rs"]
mod explore;
#[path = "see_cli.rs"]
mod see;
#[path = "locate_cli.rs"]
mod locate;
#[path = "merge_cli.rs"]
mod merge;
#[path = "shrink_cli.rs"]
mod shrink;
mod source;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
