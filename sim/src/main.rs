//! The program `dunlin-sim`, also `cargo sim`.

// What is printed goes through `cli::output`, which survives readers that are gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
