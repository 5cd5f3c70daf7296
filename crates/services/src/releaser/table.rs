//! The route table, as replicas are now.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use muonic_ports::metastore::ReplicaRecord;
use muonic_ports::routes::{Arm, Backend, Route, RouteTable};
use muonic_types::endpoint::{Endpoint, EndpointState, ReplicaState};
use muonic_types::{Name, ReplicaId};

use super::scale::Scalers;
use super::stepwise::{self, Stepwise};

/// Ready replicas of active revisions, and of targets that get a share.
pub(super) fn table(
    endpoints: &[Endpoint],
    replicas: &[ReplicaRecord],
    in_flight: &mut HashMap<ReplicaId, Arc<AtomicUsize>>,
    since: &mut HashMap<(ReplicaId, ReplicaState), Instant>,
    scalers: &mut Scalers,
    stepwise: &mut Stepwise,
) -> RouteTable {
    let mut arm = |endpoint: &Name, number: u32, stepwise: &mut Stepwise| {
        let serving = replicas
            .iter()
            .filter(|r| r.endpoint == *endpoint && r.revision == number && r.state == ReplicaState::Ready);
        let backends = serving.filter_map(|r| {
            let in_flight = in_flight.entry(r.id.clone()).or_default().clone();
            let since = *since.entry((r.id.clone(), r.state)).or_insert_with(Instant::now);
            r.address.clone().map(|address| Backend { replica: r.id.clone(), address, in_flight, since })
        });
        Arm { revision: number, backends: backends.collect(), tally: stepwise.tally(endpoint, number) }
    };
    let mut table = RouteTable { known: true, ..RouteTable::default() };
    for endpoint in endpoints.iter().filter(|e| e.state != EndpointState::Deleting) {
        let Some(number) = endpoint.active.or(endpoint.target) else { continue };
        let mut active = arm(&endpoint.name, number, stepwise);
        if endpoint.active.is_none() {
            // It serves once all its replicas are ready.
            active.backends.clear();
        }
        let target = stepwise::target(endpoint).and_then(|target| {
            let share = stepwise.share(&endpoint.name, target)?;
            Some((arm(&endpoint.name, target.number, stepwise), share))
        });
        let route = Route {
            endpoint: endpoint.name.clone(),
            project: endpoint.project.clone(),
            state: endpoint.state,
            activity: scalers.activity(&endpoint.name),
            active,
            target,
        };
        table.routes.insert(endpoint.name.clone(), route);
    }
    table
}
