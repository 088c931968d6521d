//! A graph under construction and which of its nodes are watched. What the layers write into.

use std::fmt::Display;

use ggml::{Executor, Graph, GraphBuilder, Place, Tensor};

use super::observe::Observe;
use crate::Result;
use crate::kernels::Kernels;

/// A graph under construction.
pub(super) struct Net<'o> {
    pub(super) graph: GraphBuilder,
    kernels: Kernels,
    observer: Option<&'o dyn Observe>,
    watched: Watched,
}

/// Nodes whose values go to the observer once they are computed, in graph order.
#[derive(Default)]
pub(super) struct Watched(Vec<(String, Tensor, Vec<u64>)>);

impl<'o> Net<'o> {
    pub(super) fn new(graph: GraphBuilder, kernels: Kernels, observer: Option<&'o dyn Observe>) -> Net<'o> {
        Net { graph, kernels, observer, watched: Watched::default() }
    }

    /// From here on nodes run where `weight` lies.
    pub(super) fn follow(&mut self, weight: Tensor) {
        self.graph.set_place(self.graph.place_of(weight));
    }

    /// Who computes here beside ggml: ours run on the CPU only.
    pub(super) fn kernels(&self) -> Kernels {
        match self.graph.place() {
            Place::Cpu => self.kernels,
            Place::Device(_) => Kernels::none(),
        }
    }

    /// Whether somebody asked for this node; for nodes that only an observer needs.
    pub(super) fn is_watched(&self, name: &str) -> bool {
        self.observer.is_some_and(|o| o.wants(name))
    }

    /// Names a contiguous f32 node, and keeps its value if it is watched.
    pub(super) fn name(&mut self, tensor: Tensor, name: impl Display) -> Tensor {
        let name = name.to_string();
        self.graph.name(tensor, &name);
        if self.is_watched(&name) {
            self.graph.output(tensor);
            let mut ne = self.graph.ne(tensor).to_vec();
            while ne.len() > 1 && ne.last() == Some(&1) {
                ne.pop();
            }
            self.watched.0.push((name, tensor, ne));
        }
        tensor
    }

    /// What `weight` is multiplied with, as an observer knows it; none where nobody asked for it.
    pub(super) fn watched_input(&self, weight: Tensor) -> Option<String> {
        let observer = self.observer?;
        let name = self.graph.name_of(weight);
        observer.wants_input(&name).then(|| format!("{name}.in"))
    }

    /// Keeps the value of a contiguous f32 node as `name`, without giving it that name.
    pub(super) fn watch(&mut self, tensor: Tensor, name: String) {
        self.graph.output(tensor);
        let [n, n_rows, ..] = self.graph.ne(tensor);
        self.watched.0.push((name, tensor, vec![n, n_rows]));
    }

    pub(super) fn finish(self) -> (Graph, Watched) {
        (self.graph.build(), self.watched)
    }
}

impl Watched {
    /// Hands the values of a computed graph over.
    pub(super) fn report(&self, executor: &Executor, observer: &mut dyn Observe) -> Result<()> {
        for (name, tensor, ne) in &self.0 {
            let mut values = vec![0.0; ne.iter().product::<u64>() as usize];
            executor.read_f32(*tensor, &mut values)?;
            observer.node(name, ne, &values);
        }
        Ok(())
    }
}
