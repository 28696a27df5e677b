//! The binary `alexnet`.

fn main() -> std::process::ExitCode {
    alexnet_train::cli::main()
}
