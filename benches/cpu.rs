//! Every operator of the CPU at the shapes of the `cifar` network, next to the machine's peak; `-- NAME` runs one.

mod operators;
mod support;

fn main() {
    let mut criterion = criterion::Criterion::default().configure_from_args();
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (name, bench) in operators::CPU {
        // The filter is an operator's name, or the start of a group's, such as `conv/conv2`.
        if wanted.split('/').next().is_some_and(|wanted| name.contains(wanted)) {
            bench(&mut criterion);
        }
    }
    criterion.final_summary();
}
