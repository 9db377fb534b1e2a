//! What is known to have happened, and the promises: after every commit the table is compared with it.

use std::collections::{BTreeMap, BTreeSet};

use super::table::Row;
use super::{DELAYS_MS, LEASE_MS, RENEWAL_MS, Tally};
use crate::domain::delivery::{Delivery, Leased};
use crate::store::group::Command;
use crate::store::leases::Lease;

/// A delivery under one claim.
type Claimed = (String, i64);

/// The account of one run.
#[derive(Default)]
pub(super) struct Ledger {
    rows: BTreeMap<String, Row>,
    /// Which delivery it was, counted as they were made.
    names: BTreeMap<String, usize>,
    attempts: Vec<Attempted>,
    under: BTreeMap<Claimed, usize>,
    pub(super) tally: Tally,
}

/// A request that a receiver got, or would have got.
pub(super) struct Attempted {
    delivery: String,
    pub(super) host: usize,
    pub(super) began_ms: i64,
    /// How long its lease still ran, as its host had it.
    pub(super) left_ms: i64,
    /// When it ended, and what follows from it.
    ended: Option<(i64, Delivery)>,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not in the table yet.
    Open,
    Recorded,
    /// Its host died, or dropped it.
    Lost,
    /// Another claim took its place.
    Overtaken,
}

/// What a group holds, as far as the table shows it.
#[derive(Default)]
pub(super) struct Note {
    accepts: bool,
    claims: bool,
    recorded: BTreeSet<Claimed>,
    released: BTreeSet<Claimed>,
    renewed: BTreeSet<Claimed>,
    ended: BTreeSet<Claimed>,
}

/// An attempt that begins.
pub(super) struct Begins {
    pub(super) host: usize,
    pub(super) now_ms: i64,
    /// How long its lease still runs, as its host has it.
    pub(super) left_ms: i64,
    /// By how much two clocks differ at the most.
    pub(super) clocks_differ_ms: i64,
    /// Its host may have been overtaken.
    pub(super) excused: bool,
}

/// A transaction that came to its end.
pub(super) struct Committed<'c> {
    pub(super) host: usize,
    pub(super) note: &'c Note,
    /// When, by its host's clock, as the table has it.
    pub(super) clock_ms: i64,
    /// By how much two clocks differ at the most.
    pub(super) clocks_differ_ms: i64,
}

impl Note {
    pub(super) fn of(commands: &[Command]) -> Self {
        let mut note = Self::default();
        for command in commands {
            match command {
                Command::Accept(_) | Command::AcceptTest { .. } => note.accepts = true,
                Command::Record { finished, .. } => {
                    note.recorded.insert(of_leased(&finished.leased));
                }
                Command::Claim(_) => note.claims = true,
                Command::Release(leased) => note.released.extend(leased.iter().map(of_leased)),
                Command::Renew(leases) => note.renewed.extend(leases.iter().map(of_lease)),
                Command::End(leases) => note.ended.extend(leases.iter().map(of_lease)),
            }
        }
        note
    }

    pub(super) fn renews(&self) -> bool {
        !self.renewed.is_empty()
    }
}

impl Ledger {
    /// The number of an attempt that begins now.
    pub(super) fn begins(&mut self, leased: &Leased, begins: Begins) -> usize {
        let Begins { host, now_ms, left_ms, clocks_differ_ms, excused } = begins;
        let claimed = of_leased(leased);
        let name = self.name(&claimed.0);
        assert!(left_ms >= RENEWAL_MS, "{name}: begun though its lease may run out before it is renewed");
        let number = self.attempts.len();
        assert_eq!(self.under.insert(claimed.clone(), number), None, "{name}: attempted twice under one claim");
        let row = &self.rows[&claimed.0];
        let overtaken = row.claim != claimed.1;
        assert!(!overtaken || excused, "{name}: begun under a claim that another has taken the place of");
        assert!(overtaken || row.state == "pending", "{name}: attempted though it is finished");
        if let Some((ended_ms, Delivery::Pending { failures, .. })) = self.last_recorded(&claimed.0)
            && !overtaken
        {
            let delay_ms = DELAYS_MS[failures as usize - 1];
            let early_ms = ended_ms + delay_ms - now_ms;
            assert!(early_ms <= clocks_differ_ms, "{name}: tried again {early_ms} ms too early");
        }
        let standing = if overtaken { Standing::Overtaken } else { Standing::Open };
        let delivery = claimed.0;
        self.attempts.push(Attempted { delivery, host, began_ms: now_ms, left_ms, ended: None, standing });
        self.count("attempts begun");
        number
    }

    pub(super) fn ended(&mut self, number: usize, now_ms: i64, next: Delivery) {
        self.attempts[number].ended = Some((now_ms, next));
    }

    /// Its host dropped it.
    pub(super) fn dropped(&mut self, number: usize) {
        lose(&mut self.attempts[number]);
    }

    /// The host died: what it had not recorded it never will.
    pub(super) fn died(&mut self, host: usize) {
        self.attempts.iter_mut().filter(|attempted| attempted.host == host).for_each(lose);
    }

    /// Compares the table after a transaction. `excused`: why a running attempt may have been overtaken.
    pub(super) fn compare(&mut self, committed: &Committed<'_>, rows: Vec<Row>, excused: impl Fn(&Attempted) -> bool) {
        assert!(rows.len() >= self.rows.len(), "deliveries are gone");
        for row in rows {
            let waits = (row.next_attempt_at.is_some(), row.claimable_at.is_some());
            assert_eq!(waits, (row.state == "pending", row.state == "pending"), "{row:?}");
            match self.rows.get(&row.id).cloned() {
                None => {
                    assert!(committed.note.accepts, "made of nothing: {row:?}");
                    self.made(&row);
                }
                Some(old) if old == row => {}
                Some(old) => self.changed(committed, &old, &row, &excused),
            }
            self.rows.insert(row.id.clone(), row);
        }
    }

    /// A host that is alone takes back all leases when it starts, and completes events of which only a part is written.
    pub(super) fn taken_over(&mut self, rows: Vec<Row>) {
        for row in rows {
            let Some(old) = self.rows.insert(row.id.clone(), row.clone()) else {
                let begun = self.rows.values().any(|other| other.event_id == row.event_id && other.id != row.id);
                assert!(begun, "made of nothing by a start: {row:?}");
                self.made(&row);
                self.count("deliveries that a start made");
                continue;
            };
            let taken_back = Row { claimable_at: old.next_attempt_at, ..old.clone() };
            assert!(row == old || row == taken_back, "{old:?} became {row:?}");
        }
    }

    /// Whether a claim by this clock would find something, and of which endpoints.
    pub(super) fn due(&self, clock_ms: i64) -> BTreeSet<(&str, &str)> {
        let due = self.rows.values().filter(|row| row.claimable_at.is_some_and(|at| at <= clock_ms));
        due.map(|row| (row.tenant_id.as_str(), row.endpoint_id.as_str())).collect()
    }

    /// The deliveries of an event that was acknowledged.
    pub(super) fn deliveries_of(&self, event: &str) -> usize {
        self.rows.values().filter(|row| row.event_id == event).count()
    }

    pub(super) fn unfinished(&self) -> Vec<&Row> {
        self.rows.values().filter(|row| row.state == "pending").collect()
    }

    /// When all is over: every delivery was attempted, and its history is whole.
    pub(super) fn check_end(&self, history: &BTreeMap<String, i64>) {
        for (id, row) in &self.rows {
            let name = self.name(id);
            assert_ne!(row.state, "pending", "{name}");
            // The last is in no history if a plugin stopped it.
            let stopped = i64::from(row.state == "dropped");
            assert!(row.attempts + stopped >= 1, "{name}: never attempted");
            assert_eq!(history.get(id).copied().unwrap_or(0), row.attempts, "{name}: lines of its history");
            let made: Vec<&Attempted> = self.attempts.iter().filter(|attempted| attempted.delivery == *id).collect();
            let with = |standing| made.iter().filter(|attempted| attempted.standing == standing).count();
            assert_eq!(with(Standing::Recorded) as i64, row.attempts + stopped, "{name}: attempts that were recorded");
            assert_eq!(with(Standing::Open), 0, "{name}: attempts that were forgotten");
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// The delivery's name in the story, the same in every run of a seed.
    pub(super) fn name(&self, delivery: &str) -> String {
        self.names.get(delivery).map_or_else(|| "a new delivery".to_owned(), |number| format!("delivery {number}"))
    }

    fn made(&mut self, new: &Row) {
        self.names.insert(new.id.clone(), self.names.len());
        assert_eq!((new.state.as_str(), new.attempts, new.failures), ("pending", 0, 0), "{new:?}");
        let is_twin = |row: &&Row| row.event_id == new.event_id && row.endpoint_id == new.endpoint_id;
        let twin = self.rows.values().find(|row| is_twin(row) && row.id != new.id);
        assert_eq!(twin, None, "made twice: {new:?}");
    }

    fn changed(&mut self, committed: &Committed<'_>, old: &Row, new: &Row, excused: &impl Fn(&Attempted) -> bool) {
        let name = self.name(&new.id);
        assert_eq!(old.state, "pending", "{name}: changed after its end: {new:?}");
        match (stands(old) != stands(new), new.claim != old.claim) {
            (true, true) => {
                // A transaction records before it claims: what was recorded late may be due already, and is claimed at once.
                let between = Row { claim: old.claim, claimable_at: new.next_attempt_at, ..new.clone() };
                self.recorded(committed, old, &between);
                self.claimed(committed, &between, new, excused);
            }
            (true, false) => self.recorded(committed, old, new),
            (false, true) => self.claimed(committed, old, new, excused),
            (false, false) => self.lease_changed(committed, old, new),
        }
    }

    fn claimed(&mut self, committed: &Committed<'_>, old: &Row, new: &Row, excused: &impl Fn(&Attempted) -> bool) {
        let (name, note, clock_ms) = (self.name(&new.id), committed.note, committed.clock_ms);
        let before = (old.id.clone(), old.claim);
        let given_back = note.released.contains(&before) || note.ended.contains(&before);
        assert!(note.claims, "{name}: claimed by nobody");
        assert!(given_back || old.claimable_at <= Some(clock_ms), "{name}: claimed before its lease ran out: {old:?}");
        assert!(
            old.next_attempt_at <= Some(clock_ms + committed.clocks_differ_ms),
            "{name}: claimed before it was due: {old:?}"
        );
        assert_eq!((stands(old), new.claimable_at), (stands(new), Some(clock_ms + LEASE_MS)), "{name}");
        if !given_back && old.claimable_at > old.next_attempt_at {
            self.count("leases that ran out");
        }
        let Some(&number) = self.under.get(&before) else { return };
        if self.attempts[number].standing == Standing::Open {
            let attempted = &self.attempts[number];
            assert!(
                excused(attempted),
                "{name}: host {} took it over from host {}, which is well and attempts it since {} ms",
                committed.host,
                attempted.host,
                attempted.began_ms
            );
            self.attempts[number].standing = Standing::Overtaken;
            self.count("attempts taken over");
        }
    }

    fn recorded(&mut self, committed: &Committed<'_>, old: &Row, new: &Row) {
        let (name, claimed) = (self.name(&new.id), (new.id.clone(), new.claim));
        assert!(committed.note.recorded.contains(&claimed), "{name}: recorded under a claim that is not the newest");
        let number = *self.under.get(&claimed).unwrap_or_else(|| panic!("{name}: recorded without an attempt"));
        let attempted = &mut self.attempts[number];
        assert_eq!(attempted.standing, Standing::Open, "{name}: recorded twice under one claim");
        attempted.standing = Standing::Recorded;
        let (_, next) = attempted.ended.unwrap_or_else(|| panic!("{name}: recorded before its end"));
        let (state, failures, at) = match next {
            Delivery::Pending { failures, next_attempt_at, .. } => {
                ("pending", i64::from(failures), Some(next_attempt_at.as_millisecond()))
            }
            Delivery::Succeeded { .. } => ("succeeded", 0, None),
            Delivery::Failed { .. } => ("failed", 0, None),
            Delivery::Dropped { .. } => ("dropped", 0, None),
        };
        let made = i64::from(state != "dropped");
        assert_eq!(stands(new), (state, old.attempts + made, failures, at), "{name}");
        assert_eq!(i64::from(next.attempts()), new.attempts, "{name}");
        assert_eq!(new.claimable_at, at, "{name}: waits for something else than its time");
        self.count(match state {
            "succeeded" => "attempts recorded as succeeded",
            "dropped" => "attempts that a plugin stopped",
            _ => "attempts recorded as failed",
        });
    }

    fn lease_changed(&mut self, committed: &Committed<'_>, old: &Row, new: &Row) {
        let (name, note, claimed) = (self.name(&new.id), committed.note, (new.id.clone(), new.claim));
        let is_open = self.under.get(&claimed).is_some_and(|number| self.attempts[*number].standing == Standing::Open);
        if note.released.contains(&claimed) && new.claimable_at == new.next_attempt_at {
            assert!(!is_open, "{name}: given back while it is attempted");
            self.count("leases given back");
        } else if note.renewed.contains(&claimed) && new.claimable_at == Some(committed.clock_ms + LEASE_MS) {
            self.count("leases renewed");
        } else {
            let ended = note.ended.contains(&claimed) && new.claimable_at == Some(committed.clock_ms);
            assert!(ended, "{name}: its lease was changed by somebody who does not hold it: {old:?}, {new:?}");
            assert!(!is_open, "{name}: its lease was ended while it is attempted");
            self.count("leases ended by a stop");
        }
    }

    fn last_recorded(&self, delivery: &str) -> Option<(i64, Delivery)> {
        let of_it = |attempted: &&Attempted| attempted.delivery == delivery && attempted.standing == Standing::Recorded;
        self.attempts.iter().rev().find(of_it)?.ended
    }
}

/// What only a record may change.
fn stands(row: &Row) -> (&str, i64, i64, Option<i64>) {
    (&row.state, row.attempts, row.failures, row.next_attempt_at)
}

fn lose(attempted: &mut Attempted) {
    if attempted.standing == Standing::Open {
        attempted.standing = Standing::Lost;
    }
}

fn of_leased(leased: &Leased) -> Claimed {
    (leased.id.to_string(), leased.claim)
}

fn of_lease(lease: &Lease) -> Claimed {
    (lease.id.to_string(), lease.claim)
}
