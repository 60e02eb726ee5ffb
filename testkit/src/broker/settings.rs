//! What the broker is told. Chosen for tests: one replica of everything, few internal partitions, no waiting for members.

use std::path::Path;

use crate::{Result, ports};

/// The ports of one broker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) clients: u16,
    pub(super) behind: u16,
    pub(super) front: u16,
    controller: u16,
}

impl Ports {
    pub(super) fn free() -> Result<Self> {
        Ok(Self {
            clients: ports::free()?,
            behind: ports::free()?,
            front: ports::free()?,
            controller: ports::free()?,
        })
    }
}

pub(super) fn properties(folder: &Path, ports: Ports) -> String {
    let Ports {
        clients,
        behind,
        front,
        controller,
    } = ports;
    let data = folder.join("data");
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=DIRECT://127.0.0.1:{clients},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=DIRECT://127.0.0.1:{clients},PROXIED://127.0.0.1:{front}
listener.security.protocol.map=DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=DIRECT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
controlled.shutdown.enable=false
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=1
log.retention.ms=-1
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=8388608
",
        data.display()
    )
}
