//! Nothing fails: every delivery is made exactly once, whoever of the hosts makes it.

use revnoxa_tests::{HostProcess, Machine, eventually};
use tokio::task::JoinSet;

use crate::{
    customers::{Customers, NOTHING, TENANTS, attempted, event},
    database, host,
    load::{Load, Manner},
    rounds,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_deliver_each_event_once() {
    each_event_once(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_hosts_deliver_each_event_once() {
    each_event_once(4).await;
}

async fn each_event_once(hosts: usize) {
    let Some((_server, url)) = database() else { return };
    let machines: Vec<Machine> = (0..hosts).map(|_| host(&url)).collect();
    let mut processes: Vec<HostProcess> = Vec::new();
    for machine in &machines {
        processes.push(machine.serve().await);
    }
    let customers = Customers::content(&machines[0], &url).await;
    let load = Load::on(&machines.iter().collect::<Vec<_>>(), Manner::Once).await;
    let taken = async |events: usize| {
        let before = load.acknowledged();
        eventually("a load", async || (load.acknowledged() >= before + events).then_some(())).await;
    };
    for _ in 0..rounds(2) {
        taken(60).await;
        let before = attempts_of(&machines).await;
        // What comes now waits in the table, and all hosts claim it at once.
        customers.each("/disable").await;
        taken(90).await;
        customers.each("/enable").await;
        eventually("all hosts to claim", async || {
            attempts_of(&machines).await.iter().zip(&before).all(|(now, before)| now > before).then_some(())
        })
        .await;
    }
    let tally = load.stop().await;
    customers.check(&tally, NOTHING).await;
    assert_eq!((tally.refusals(), tally.broken), (0, 0));
    assert_eq!(customers.arrived(), tally.acknowledged.len() * 3);
    eprintln!("attempts of the hosts: {:?}", attempts_of(&machines).await);
}

async fn attempts_of(machines: &[Machine]) -> Vec<u64> {
    let mut attempts = Vec::new();
    for machine in machines {
        attempts.push(attempted(machine).await);
    }
    attempts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_posted_to_both_at_once_is_one_event() {
    let Some((_server, url)) = database() else { return };
    let machines = [host(&url), host(&url)];
    let (_a, _b) = (machines[0].serve().await, machines[1].serve().await);
    let customers = Customers::content(&machines[0], &url).await;
    let producers = [machines[0].producer().await, machines[1].producer().await];
    let events = 40 * rounds(5);
    for first in (0..events).step_by(20) {
        let mut posts = JoinSet::new();
        for number in first..first + 20 {
            for producer in &producers {
                let request = producer.request("POST", "/v1/events").json(&event(&format!("twin_{number}")));
                posts.spawn(async move { (number, request.send().await) });
            }
        }
        let mut answers = posts.join_all().await;
        answers.sort_by_key(|(number, _)| *number);
        for pair in answers.chunks(2) {
            let [one, other] = pair else { unreachable!() };
            assert_eq!(one.1.clone().expect(202).json, other.1.clone().expect(202).json);
            assert_eq!(one.1["deliveries"], 3);
        }
    }
    eventually("all to arrive", async || (customers.arrived() >= events * 3).then_some(())).await;
    let mut tally = crate::load::Tally::default();
    tally.acknowledged = (0..events).map(|number| (TENANTS[0], format!("twin_{number}"))).collect();
    customers.check(&tally, NOTHING).await;
    assert_eq!(customers.arrived(), events * 3);
}
