//! The `obol` binary: everything is in the library, so that tests and benches can reach it.

use std::process::ExitCode;

/// Requests are many small allocations that live for microseconds: a tenth of the time went to the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    obol::cli::run(std::env::args_os())
}
