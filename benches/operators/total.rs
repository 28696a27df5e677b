use alexnet_kernels::Number;

use super::{Case, Net, floats};

pub fn cases(net: &Net) -> Vec<Case> {
    let batch = net.batch;
    let case = Case::new("total", format!("{} loss", net.name), move |kernels| {
        let (losses, correct) = (floats(kernels, batch)?, floats(kernels, batch)?);
        let mut totals = kernels.zeros(Number::F64, 2)?;
        Ok(Box::new(move || kernels.total_add(batch, &losses, &correct, &mut totals)))
    });
    vec![case.moves(0, 8 * batch + 32)]
}
