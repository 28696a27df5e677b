//! The reference as a device: the definition of every operator, for gradient checks in f64.

use super::exchange::{self, Division, Exchange, HostPeers, padded};
use super::{Element, Memory, Operators, Parameter, Queue};
use crate::arguments::*;
use crate::network::shards::Tree;
use crate::shape::Operation;
use crate::{Result, Sgd, reference};
use alexnet_ops::{for_each_operator, front, front_mut};
use alexnet_ranks::Ranks;
use std::convert::Infallible;
use std::sync::Arc;

/// Naive loops over `T`, one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference<T>(std::marker::PhantomData<T>);

impl<T> Reference<T> {
    /// The device.
    pub const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

/// Implements each operator by the function of the same name in [`reference`].
macro_rules! define {
    ($($name:ident($arguments:ident);)*) => {$(
        fn $name(&self, arguments: $arguments<'_, Self>) -> Result<()> {
            reference::$name(arguments.view(&Fronts::new())?);
            Ok(())
        }
    )*};
}

impl<T: Element> Arrays for Reference<T> {
    type Buffer = Vec<T>;
    type Bytes = Vec<u8>;
    type Labels = Vec<u32>;
}

impl<T: Element> Memory for Reference<T> {
    type Element = T;
    type Totals = [f64; 2];
    type Uploads = Vec<u8>;

    fn name(&self) -> String {
        format!("reference ({})", std::any::type_name::<T>())
    }

    fn zeros(&self, len: usize) -> Result<Vec<T>> {
        Ok(vec![T::zero(); len])
    }
    fn bytes(&self, len: usize) -> Result<Vec<u8>> {
        Ok(vec![0; len])
    }
    fn labels(&self, len: usize) -> Result<Vec<u32>> {
        Ok(vec![0; len])
    }
    fn write_at(&self, from: &[T], to: &mut Vec<T>, start: usize) -> Result<()> {
        front_mut("write", "to", to, start + from.len())?[start..].copy_from_slice(from);
        Ok(())
    }
    fn read_at(&self, from: &Vec<T>, start: usize, to: &mut [T]) -> Result<()> {
        to.copy_from_slice(&front("read", "from", from, start + to.len())?[start..]);
        Ok(())
    }
    fn snapshot(&self, from: &Vec<T>, _: Option<Vec<T>>) -> Result<Vec<T>> {
        Ok(from.clone())
    }
    fn write_bytes(&self, from: &[u8], to: &mut Vec<u8>) -> Result<()> {
        front_mut("write_bytes", "to", to, from.len())?.copy_from_slice(from);
        Ok(())
    }
    fn uploads(&self, len: usize) -> Result<Vec<u8>> {
        self.bytes(len)
    }
    fn upload<'a>(&self, from: &[u8], uploads: &'a mut Vec<u8>) -> Result<&'a Vec<u8>> {
        self.write_bytes(from, uploads)?;
        Ok(uploads)
    }
    fn write_labels(&self, from: &[u32], to: &mut Vec<u32>) -> Result<()> {
        front_mut("write_labels", "to", to, from.len())?.copy_from_slice(from);
        Ok(())
    }
    fn totals(&self) -> Result<[f64; 2]> {
        Ok([0.0; 2])
    }
    fn write_totals(&self, from: [f64; 2], to: &mut [f64; 2]) -> Result<()> {
        *to = from;
        Ok(())
    }
    fn read_totals(&self, from: &[f64; 2]) -> Result<[f64; 2]> {
        Ok(*from)
    }

    fn prepare(&self, _: &[Operation], _: bool) -> Result<u64> {
        Ok(0)
    }
}

impl<T: Element> Queue for Reference<T> {
    type Graph = Infallible;
}

impl<T: Element> Exchange for Reference<T> {
    type Peers = HostPeers<Vec<T>>;

    fn stored_len(&self, buffer: &Vec<T>) -> usize {
        buffer.len()
    }
    fn connect(
        &self,
        ranks: Arc<dyn Ranks>,
        divisions: &mut dyn Iterator<Item = Division>,
    ) -> Result<HostPeers<Vec<T>>> {
        HostPeers::new(self, ranks, divisions)
    }
    fn send_gradients<'a>(
        &self,
        peers: &mut HostPeers<Vec<T>>,
        present: &dyn Fn(usize) -> bool,
        before: &mut dyn Iterator<Item = Division>,
        gradients: &mut dyn Iterator<Item = (&'a Vec<T>, Division)>,
        work: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        exchange::send_gradients(peers, present, before, gradients, work)
    }
    fn update_own<'a>(
        &self,
        peers: &mut HostPeers<Vec<T>>,
        optimizer: &Sgd,
        tree: Tree,
        parameters: &mut dyn Iterator<Item = (&'a mut Parameter<Vec<T>>, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        let rank = peers.rank();
        let mut before = 0;
        for (parameter, division) in parameters {
            let (own, optimizer) = (division.range(rank), parameter.sgd(optimizer));
            let (Some(gradient), Some(momentum)) = (&parameter.gradient, &mut parameter.momentum) else { continue };
            let mut stack: Vec<Vec<T>> = Vec::new();
            for leaf in tree.clone() {
                stack.push(match leaf.number == rank {
                    true => gradient[own.clone()].to_vec(),
                    false => {
                        front("update_own", "inbox", peers.sent(leaf.number), before + own.len())?[before..].to_vec()
                    }
                });
                for _ in 0..leaf.sums {
                    let right = stack.pop().unwrap_or_default();
                    let left = stack.last_mut().into_iter().flatten();
                    left.zip(right).for_each(|(left, right)| *left += right);
                }
            }
            let sum = stack.pop().unwrap_or_default();
            reference::sgd(&optimizer, &mut parameter.value[own.clone()], &sum, &mut momentum[own.clone()]);
            before += padded(own.len());
        }
        Ok(())
    }
    fn gather<'a>(
        &self,
        peers: &mut HostPeers<Vec<T>>,
        arrays: &mut dyn Iterator<Item = (&'a mut Vec<T>, Division)>,
    ) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        exchange::gather(peers, arrays)
    }
    fn gather_totals<'a>(
        &self,
        peers: &mut HostPeers<Vec<T>>,
        totals: &mut dyn Iterator<Item = (&'a mut [f64; 2], Division)>,
    ) -> Result<()>
    where
        Self::Totals: 'a,
    {
        exchange::gather(peers, totals)
    }
}

impl<T: Element> Operators for Reference<T> {
    for_each_operator!(define);

    fn softmax_cross_entropy(&self, arguments: SoftmaxCrossEntropy<'_, Self>) -> Result<()> {
        let a = arguments.view(&Fronts::new())?;
        a.check_labels()?;
        reference::softmax_cross_entropy(a);
        Ok(())
    }

    fn add_totals(&self, len: usize, losses: &Vec<T>, correct: &Vec<T>, totals: &mut [f64; 2]) -> Result<()> {
        for (total, values) in totals
            .iter_mut()
            .zip([front("add_totals", "losses", losses, len)?, front("add_totals", "correct", correct, len)?])
        {
            *total += values.iter().map(|&x| Element::to_f64(x)).sum::<f64>();
        }
        Ok(())
    }

    fn sgd<'a>(&self, optimizer: &Sgd, parameters: &mut dyn Iterator<Item = &'a mut Parameter<Vec<T>>>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        for parameter in parameters {
            let optimizer = parameter.sgd(optimizer);
            if let (Some(gradient), Some(momentum)) = (&parameter.gradient, &mut parameter.momentum) {
                reference::sgd(&optimizer, &mut parameter.value, gradient, momentum);
            }
        }
        Ok(())
    }

    fn ema(&self, decay: f64, parameters: &mut [Parameter<Vec<T>>]) -> Result<()> {
        for parameter in parameters {
            if let Some(average) = &mut parameter.average {
                reference::ema(decay, &parameter.value, average);
            }
        }
        Ok(())
    }

    fn add_floats<'a>(&self, pairs: &mut dyn Iterator<Item = (&'a mut Vec<T>, &'a Vec<T>)>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        for (y, x) in pairs {
            let len = y.len();
            front("add_floats", "y", y, x.len())?;
            y.iter_mut().zip(front("add_floats", "x", x, len)?).for_each(|(y, &x)| *y += x);
        }
        Ok(())
    }

    fn approach<'a>(&self, rate: f64, pairs: &mut dyn Iterator<Item = (&'a mut Vec<T>, &'a Vec<T>)>) -> Result<()>
    where
        Self::Buffer: 'a,
    {
        for (e, x) in pairs {
            let len = e.len();
            front("approach", "e", e, x.len())?;
            reference::approach(rate, front("approach", "x", x, len)?, e);
        }
        Ok(())
    }
}
