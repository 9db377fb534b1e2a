use std::time::Duration;

use bytes::Bytes;

use super::account::Used;
use super::lane::{CLAIMS, LANE_DEPTH};
use super::*;
use crate::domain::delivery::Delivery;
use crate::domain::event::EventType;
use crate::domain::id::{DeliveryId, EventId};
use crate::domain::outcome::{Answer, Outcome, SendError};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const LIMITS: Limits = Limits { in_flight: 16, per_endpoint: 6 };

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn leased(endpoint: EndpointId) -> Leased {
    Leased {
        tenant: tenant(),
        id: DeliveryId::new(NOW),
        endpoint,
        event: EventId::new(NOW),
        event_type: EventType::test(),
        body: Bytes::new(),
        transformed: false,
        delivery: Delivery::new(NOW),
        claim: 1,
        lease_until: Timestamp::MAX,
        trace: None,
    }
}

fn fill(lanes: &mut Lanes, endpoint: EndpointId) -> usize {
    let mut count = 0;
    while lanes.reserve(&tenant(), endpoint) {
        lanes.hand_over(leased(endpoint));
        count += 1;
    }
    count
}

fn start_all(lanes: &mut Lanes) -> Vec<Started> {
    std::iter::from_fn(|| lanes.start()).collect()
}

fn count(started: &[Started], endpoint: EndpointId) -> usize {
    started.iter().filter(|started| started.leased.endpoint == endpoint).count()
}

/// Lets the endpoint answer promptly until it may have its whole share.
fn prove(lanes: &mut Lanes, endpoint: EndpointId) {
    for _ in 0..LIMITS.per_endpoint {
        lanes.observe(&tenant(), endpoint, Health::Prompt);
    }
}

#[test]
fn one_endpoint_never_has_more_than_its_limit() {
    let (mut lanes, endpoint) = (Lanes::new(LIMITS), EndpointId::new(NOW));
    prove(&mut lanes, endpoint);
    assert_eq!(fill(&mut lanes, endpoint), LIMITS.per_endpoint * LANE_DEPTH);
    assert_eq!(start_all(&mut lanes).len(), LIMITS.per_endpoint);
}

#[test]
fn endpoints_take_turns() {
    let mut lanes = Lanes::new(LIMITS);
    let [a, b] = [(); 2].map(|()| EndpointId::new(NOW));
    for endpoint in [a, b] {
        prove(&mut lanes, endpoint);
        fill(&mut lanes, endpoint);
    }
    let started = start_all(&mut lanes);
    assert_eq!((count(&started, a), count(&started, b)), (LIMITS.in_flight / 4, LIMITS.in_flight / 4));
}

#[test]
fn a_tenant_gets_no_more_than_it_leaves_free() {
    let mut lanes = Lanes::new(LIMITS);
    let many: Vec<EndpointId> = (0..100).map(|_| EndpointId::new(NOW)).collect();
    for endpoint in &many {
        prove(&mut lanes, *endpoint);
        fill(&mut lanes, *endpoint);
    }
    let hanging = start_all(&mut lanes);
    assert_eq!((hanging.len(), lanes.account.total().held), (LIMITS.in_flight / 2, LIMITS.total_depth() / 2));

    let (other, endpoint) = ("other".parse().unwrap(), EndpointId::new(NOW));
    let mut theirs = 0;
    while lanes.reserve(&other, endpoint) {
        lanes.hand_over(Leased { tenant: other.clone(), ..leased(endpoint) });
        theirs += 1;
    }
    assert!(theirs > 0);
    assert_eq!(start_all(&mut lanes).len(), LIMITS.in_flight / 4);

    // What was parked has its turn when the tenant's own attempts end.
    for started in hanging {
        lanes.finished(&started, Health::Prompt);
    }
    assert_eq!(start_all(&mut lanes).len(), (LIMITS.in_flight - LIMITS.in_flight / 4) / 2);
}

#[test]
fn however_many_hang_half_the_permits_and_places_serve_the_proven() {
    let mut lanes = Lanes::new(LIMITS);
    for n in 0..100 {
        let (tenant, endpoint): (TenantId, _) = (format!("dead-{n}").parse().unwrap(), EndpointId::new(NOW));
        while lanes.reserve(&tenant, endpoint) {
            lanes.hand_over(Leased { tenant: tenant.clone(), ..leased(endpoint) });
        }
    }
    let hanging = start_all(&mut lanes).len();
    assert!((1..=LIMITS.in_flight / 2).contains(&hanging), "the others hold half at most: {hanging}");
    assert!(lanes.account.total().held <= LIMITS.total_depth() / 2);
    let proven = EndpointId::new(NOW);
    prove(&mut lanes, proven);
    assert!(fill(&mut lanes, proven) > 0);
    assert!(count(&start_all(&mut lanes), proven) >= LIMITS.in_flight / 4);
}

#[test]
fn backlogs_are_claimed_in_turn_however_many_there_are() {
    let mut lanes = Lanes::new(LIMITS);
    let endpoints: Vec<EndpointId> = (0..50).map(|_| EndpointId::new(NOW)).collect();
    for endpoint in &endpoints {
        prove(&mut lanes, *endpoint);
        lanes.flag_backlog(&tenant(), *endpoint);
    }
    let mut attempts: HashMap<EndpointId, usize> = HashMap::new();
    for _ in 0..200 {
        for want in lanes.wants() {
            let claimed = (0..want.credits).map(|_| leased(want.endpoint)).collect();
            lanes.claimed(&want, Some((claimed, Remaining::More)));
        }
        for started in start_all(&mut lanes) {
            *attempts.entry(started.leased.endpoint).or_default() += 1;
            lanes.finished(&started, Health::Prompt);
        }
    }
    let counts: Vec<usize> = endpoints.iter().map(|endpoint| attempts.get(endpoint).copied().unwrap_or(0)).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least > 0 && least * 5 > *most, "{counts:?}");
}

#[test]
fn parked_lanes_start_when_another_tenant_leaves_permits() {
    let mut lanes = Lanes::new(LIMITS);
    let other: TenantId = "other".parse().unwrap();
    let [theirs, ours, ours_too] = [(); 3].map(|()| EndpointId::new(NOW));
    for _ in 0..LIMITS.per_endpoint {
        lanes.observe(&other, theirs, Health::Prompt);
    }
    for _ in 0..LIMITS.per_endpoint {
        assert!(lanes.reserve(&other, theirs));
        lanes.hand_over(Leased { tenant: other.clone(), ..leased(theirs) });
    }
    let running = start_all(&mut lanes);
    for endpoint in [ours, ours_too] {
        prove(&mut lanes, endpoint);
        fill(&mut lanes, endpoint);
    }
    let before = start_all(&mut lanes).len();
    assert_eq!(before, (LIMITS.in_flight - running.len()) / 2);
    for started in running {
        lanes.finished(&started, Health::Prompt);
    }
    assert_eq!(before + start_all(&mut lanes).len(), LIMITS.in_flight / 2);
}

#[test]
fn the_proven_are_not_parked_behind_those_that_hang() {
    let mut lanes = Lanes::new(LIMITS);
    let [hangs, answers] = [(); 2].map(|()| EndpointId::new(NOW));
    prove(&mut lanes, answers);
    let [hanging, answered] = [hangs, answers].map(|endpoint| {
        fill(&mut lanes, endpoint);
        start_all(&mut lanes)
    });
    let counts = (count(&hanging, hangs), count(&answered, answers));
    assert_eq!(counts, (LIMITS.in_flight / 4, LIMITS.in_flight / 4), "the tenant has its share");
    for started in &answered {
        lanes.finished(started, Health::Prompt);
    }
    assert_eq!(count(&start_all(&mut lanes), answers), answered.len());
}

#[test]
fn a_lane_that_is_no_longer_parked_hides_none_that_is() {
    let mut lanes = Lanes::new(LIMITS);
    let [proves_itself, parked] = [(); 2].map(|()| EndpointId::new(NOW));
    for endpoint in [proves_itself, parked].repeat(3) {
        assert!(lanes.reserve(&tenant(), endpoint));
        lanes.hand_over(leased(endpoint));
    }
    let running = start_all(&mut lanes);
    assert_eq!((count(&running, proves_itself), count(&running, parked)), (2, 2), "all that are not proven may have");
    let ends = running.iter().find(|started| started.leased.endpoint == proves_itself).unwrap();
    lanes.finished(ends, Health::Prompt);
    let more = start_all(&mut lanes);
    assert_eq!((count(&more, proves_itself), count(&more, parked)), (1, 1));
}

#[test]
fn a_lane_that_proves_itself_leaves_the_queue_of_the_unproven() {
    let mut lanes = Lanes::new(LIMITS);
    let healthy = EndpointId::new(NOW);
    for n in 0..20 {
        let (tenant, endpoint): (TenantId, _) = (format!("dead-{n}").parse().unwrap(), EndpointId::new(NOW));
        lanes.reserve(&tenant, endpoint);
        lanes.hand_over(Leased { tenant: tenant.clone(), ..leased(endpoint) });
    }
    fill(&mut lanes, healthy);
    start_all(&mut lanes);
    assert_eq!(lanes.account.total().unproven_running, LIMITS.in_flight / 2, "no turn is left for the unproven");
    lanes.observe(&tenant(), healthy, Health::Prompt);
    assert!(count(&start_all(&mut lanes), healthy) > 0);
}

#[test]
fn an_endpoint_that_stops_answering_is_tried_less_until_it_answers_again() {
    let (mut lanes, endpoint) = (Lanes::new(LIMITS), EndpointId::new(NOW));
    prove(&mut lanes, endpoint);
    fill(&mut lanes, endpoint);
    for started in start_all(&mut lanes) {
        lanes.finished(&started, Health::Troubled);
    }
    let few = start_all(&mut lanes);
    assert_eq!(few.len(), LEAST_LIMIT);
    for started in few {
        lanes.finished(&started, Health::Prompt);
    }
    assert_eq!(start_all(&mut lanes).len(), LEAST_LIMIT + 2);
}

/// Each claim is some statements in a transaction that others wait for.
#[test]
fn of_many_endpoints_some_claim_at_once_those_proven_and_the_others_in_turn() {
    let mut lanes = Lanes::new(Limits { in_flight: 1_000, per_endpoint: 2 });
    let (dead, alive): (Vec<_>, Vec<_>) = (0..40).map(|_| (EndpointId::new(NOW), EndpointId::new(NOW))).unzip();
    alive.iter().for_each(|endpoint| lanes.presume_proven(&tenant(), *endpoint));
    dead.iter().for_each(|endpoint| lanes.flag_backlog(&tenant(), *endpoint));
    let first = lanes.wants();
    assert_eq!(first.iter().map(|want| want.endpoint).collect::<Vec<_>>(), dead[..CLAIMS]);

    alive.iter().for_each(|endpoint| lanes.flag_backlog(&tenant(), *endpoint));
    assert_eq!(lanes.wants(), []);
    first[..4].iter().for_each(|want| lanes.claimed(want, Some((Vec::new(), Remaining::Nothing))));
    let next: Vec<EndpointId> = lanes.wants().into_iter().map(|want| want.endpoint).collect();
    assert_eq!(next, [dead[CLAIMS], alive[0], dead[CLAIMS + 1], alive[1]]);
    // A claim that failed is over, too.
    lanes.claimed(&first[4], None);
    assert_eq!(lanes.wants().len(), 1);
}

#[test]
fn whose_standing_changes_claims_as_it_stands_now() {
    let mut lanes = Lanes::new(LIMITS);
    let [now_troubled, now_prompt] = [(); 2].map(|()| EndpointId::new(NOW));
    prove(&mut lanes, now_troubled);
    lanes.flag_backlog(&tenant(), now_troubled);
    lanes.observe(&tenant(), now_troubled, Health::Troubled);
    let want = lanes.wants().pop().unwrap();
    assert_eq!(want.endpoint, now_troubled);
    lanes.claimed(&want, Some((Vec::new(), Remaining::Nothing)));

    for n in 0..100 {
        let (tenant, endpoint): (TenantId, _) = (format!("dead-{n}").parse().unwrap(), EndpointId::new(NOW));
        while lanes.reserve(&tenant, endpoint) {
            lanes.hand_over(Leased { tenant: tenant.clone(), ..leased(endpoint) });
        }
    }
    lanes.flag_backlog(&tenant(), now_prompt);
    assert!(lanes.wants().is_empty(), "the places of the unproven are taken");
    lanes.observe(&tenant(), now_prompt, Health::Prompt);
    assert_eq!(lanes.wants().len(), 1);
}

#[test]
fn slow_answers_and_none_are_not_prompt() {
    let outcome = |duration, answered: bool| {
        let answer = Answer { status: 500, body: Bytes::new(), truncated: false, retry_after: None };
        Outcome { duration, result: answered.then_some(answer).ok_or(SendError::ConnectionRefused) }
    };
    assert_eq!(Health::of(&outcome(PROMPT / 2, true)), Health::Prompt);
    assert_eq!(Health::of(&outcome(PROMPT, true)), Health::Troubled);
    assert_eq!(Health::of(&outcome(Duration::ZERO, false)), Health::Troubled);
}

#[test]
fn fresh_deliveries_queue_up_behind_a_backlog() {
    let (mut lanes, endpoint) = (Lanes::new(LIMITS), EndpointId::new(NOW));
    lanes.flag_backlog(&tenant(), endpoint);
    assert!(!lanes.reserve(&tenant(), endpoint));
    let want = lanes.wants().pop().unwrap();
    assert_eq!(want.credits, LIMITS.first() * LANE_DEPTH);
    assert!(lanes.wants().is_empty(), "one claim at a time");
    lanes.claimed(&want, Some((vec![leased(endpoint)], Remaining::Nothing)));
    assert!(lanes.reserve(&tenant(), endpoint));
}

#[test]
fn a_flag_raised_during_a_claim_is_not_lost() {
    let (mut lanes, endpoint) = (Lanes::new(LIMITS), EndpointId::new(NOW));
    lanes.flag_backlog(&tenant(), endpoint);
    let want = lanes.wants().pop().unwrap();
    lanes.flag_backlog(&tenant(), endpoint);
    lanes.claimed(&want, Some((Vec::new(), Remaining::Nothing)));
    assert_eq!(lanes.wants().len(), 1);
}

#[test]
fn a_failed_claim_is_tried_again() {
    let (mut lanes, endpoint) = (Lanes::new(LIMITS), EndpointId::new(NOW));
    lanes.flag_backlog(&tenant(), endpoint);
    let want = lanes.wants().pop().unwrap();
    lanes.claimed(&want, None);
    assert_eq!(lanes.wants(), [want]);
}

#[test]
fn the_earliest_retry_wakes_its_endpoint_once() {
    let (mut lanes, endpoint) = (Lanes::new(LIMITS), EndpointId::new(NOW));
    let at = |second| Timestamp::from_second(second).unwrap();
    for second in [50, 30, 40] {
        lanes.schedule(&tenant(), endpoint, at(second));
    }
    assert_eq!(lanes.next_due(), Some(at(30)));
    lanes.flag_due(at(29));
    assert!(lanes.wants().is_empty());
    lanes.flag_due(at(30));
    assert_eq!(lanes.wants().len(), 1);
    assert_eq!(lanes.next_due(), None);
}

#[test]
fn nothing_is_held_when_all_is_done() {
    let (mut lanes, endpoint) = (Lanes::new(LIMITS), EndpointId::new(NOW));
    fill(&mut lanes, endpoint);
    loop {
        let started = start_all(&mut lanes);
        if started.is_empty() {
            break;
        }
        for started in started {
            lanes.finished(&started, Health::Prompt);
        }
    }
    assert!(lanes.lanes[&endpoint].is_idle());
    assert_eq!(lanes.account.total(), Used::default());
}

#[test]
fn closing_gives_back_what_never_began() {
    let (mut lanes, endpoint) = (Lanes::new(LIMITS), EndpointId::new(NOW));
    let queued = fill(&mut lanes, endpoint);
    let started = lanes.start().unwrap();
    assert_eq!(lanes.close().len(), queued - 1);
    assert!(lanes.start().is_none() && !lanes.reserve(&tenant(), endpoint));
    lanes.finished(&started, Health::Unknown);
    assert_eq!(lanes.account.total(), Used::default());
}

#[test]
fn what_comes_after_closing_is_left_behind() {
    let (mut lanes, endpoint) = (Lanes::new(LIMITS), EndpointId::new(NOW));
    assert!(lanes.reserve(&tenant(), endpoint));
    assert!(lanes.left_behind().is_empty() && lanes.close().is_empty());
    lanes.hand_over(leased(endpoint));
    assert!(lanes.start().is_none());
    assert_eq!(lanes.left_behind().len(), 1);
    assert_eq!((lanes.left_behind().len(), lanes.account.total()), (0, Used::default()));
}
