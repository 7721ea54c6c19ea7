//! Two evaluators that both hold every partition for theirs, for as long as they run.

use std::thread;
use std::time::Duration;

use evaluator::EvaluatorParts;
use serve::{Clock, Health, Shutdown};
use storage::fault::{Faults, Op, Step};
use tokio::sync::watch;

use crate::cluster::{Cluster, PARTITIONS};
use crate::installation::Installation;
use crate::invariants;

const LASTING: Duration = Duration::from_secs(20);

/// An evaluator in this process that nobody assigns partitions to: it has all.
struct Contender {
    faults: Faults,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl Contender {
    async fn start(cluster: &Cluster) -> Self {
        let log = storage::kafka::connect(&cluster.kafka_options()).await.expect("the topics");
        let state = storage::cql::connect(&cluster.cql_options(), log.clone()).await;
        let faults = Faults::default();
        let (_, all) = watch::channel((0..PARTITIONS).collect());
        let (log, state) = faults.wrap_assigned(log, state.expect("the keyspace").0, all);
        let shutdown = Shutdown::new();
        let parts = EvaluatorParts {
            log,
            state,
            clock: Clock::system(),
            health: Health::new(),
            config: evaluator::Config::default(),
        };
        let task = tokio::spawn(evaluator::run(parts, shutdown.clone()));
        Self { faults, shutdown, task }
    }
}

#[test]
#[ignore = "needs servers of its own: scripts/faults"]
fn of_two_evaluators_forced_on_one_partition_none_decides_twice() {
    let all = Installation::start_undecided();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let start = || runtime.block_on(Contender::start(&all.cluster));
    let both = [start(), start()];
    let workload = all.workload();
    workload.during(Duration::from_millis(500), || {
        thread::sleep(LASTING);
        workload.decide_one();
    });
    invariants::check(&workload);
    for Contender { faults, shutdown, task } in both {
        let (taken, committed) =
            [Op::Acquire, Op::Commit].map(|op| faults.reached(op, Step::Answer)).into();
        println!("taken over {taken} times, {committed} write sets");
        assert!(taken > u64::from(PARTITIONS) && committed > 0, "they did not contend");
        shutdown.request();
        runtime.block_on(task).expect("it ends in order");
    }
}
