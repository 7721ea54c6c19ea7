//! Several processes on the servers: one of control and of dispatcher, two of those that take turns.

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::cluster::Cluster;
use crate::cql_proxy::{Fate, Proxy, Rule};
use crate::node::Node;
use crate::operating::assert_few_series;
use crate::workload::Workload;

/// A process of each role; two of those that share their work.
pub(crate) struct Installation {
    pub(crate) cluster: Cluster,
    pub(crate) control: Node,
    pub(crate) edges: [Node; 2],
    pub(crate) evaluators: Vec<Node>,
    pub(crate) dispatcher: Node,
}

impl Installation {
    /// With two evaluators.
    pub(crate) fn start() -> Self {
        let mut all = Self::start_undecided();
        all.evaluators = [(); 2].map(|()| all.cluster.start("evaluator")).into();
        all
    }

    /// With two evaluators that reach the CQL server by ways on which it can be met.
    pub(crate) fn start_with_ways() -> (Self, [Way; 2]) {
        let mut all = Self::start_undecided();
        let ways = [(); 2].map(|()| Way::to(all.cluster.cql()));
        all.evaluators =
            ways.each_ref().map(|way| all.cluster.start_by("evaluator", way.address())).into();
        (all, ways)
    }

    /// Without an evaluator.
    pub(crate) fn start_undecided() -> Self {
        let cluster = Cluster::migrated();
        let edges = [(); 2].map(|()| cluster.start("edge"));
        let (control, dispatcher) = (cluster.start("control"), cluster.start("dispatcher"));
        Self { cluster, control, edges, evaluators: Vec::new(), dispatcher }
    }

    /// A new organization that pushes to both edges.
    pub(crate) fn workload(&self) -> Workload {
        Workload::new(&self.control, self.edges.each_ref().map(|edge| edge.url("")).into())
    }

    /// No process shows more series than is promised.
    pub(crate) fn assert_few_series(&self) {
        let others = [&self.control, &self.dispatcher];
        for node in self.edges.iter().chain(&self.evaluators).chain(others) {
            assert_few_series(&node.metrics());
        }
    }
}

/// A process's way to the CQL server.
pub(crate) struct Way {
    proxy: Proxy,
    /// In which the proxy lives.
    _runtime: Runtime,
}

impl Way {
    pub(crate) fn to(server: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let proxy = runtime.block_on(Proxy::start(server.to_owned()));
        Self { proxy, _runtime: runtime }
    }

    fn address(&self) -> &str {
        &self.proxy.address
    }

    /// The next `times` requests whose statement begins so have this fate.
    pub(crate) fn on(&self, begins: &'static str, fate: Fate, times: usize) -> Arc<Rule> {
        self.proxy.on(begins, fate, times)
    }
}
