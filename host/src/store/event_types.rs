//! The catalogue of event types: data that the operator may add to.

use super::{Page, PageRequest, Store, StoreError, millis, parsed};
use crate::domain::event::{EventType, SEEDED_TYPES};

/// One entry of the catalogue.
#[derive(Debug)]
pub struct EventTypeRecord {
    /// Its name.
    pub name: EventType,
    /// For people; may be empty.
    pub description: String,
}

/// What retiring a type came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// New events of it are refused from now on.
    Yes,
    /// It is not in the catalogue.
    NotThere,
}

type Row = (String, String);

impl Store {
    /// The catalogue by name, retired types left out.
    pub async fn event_types(
        &self,
        page: &PageRequest<EventType>,
    ) -> Result<Page<EventTypeRecord, EventType>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT name, description FROM event_types WHERE retired_at IS NULL AND name > $1 ORDER BY name LIMIT $2",
        )
        .bind(page.after())
        .bind(page.rows())
        .fetch_all(&self.browse)
        .await?;
        let record = |(name, description): Row| {
            Ok(EventTypeRecord { name: parsed("event_types", "name", &name, &name)?, description })
        };
        let types: Vec<EventTypeRecord> = rows.into_iter().map(record).collect::<Result<_, StoreError>>()?;
        Ok(page.page(types, |record| record.name.clone()))
    }

    /// Adds a type, or brings back a retired one. `false`: it is there already.
    pub async fn add_event_type(&self, name: &EventType, description: &str) -> Result<bool, StoreError> {
        let added = sqlx::query(
            "INSERT INTO event_types (name, description) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET description = excluded.description, retired_at = NULL
             WHERE event_types.retired_at IS NOT NULL",
        )
        .bind(name.as_str())
        .bind(description)
        .execute(&self.write)
        .await?;
        self.catalog.forget_event_types();
        Ok(added.rows_affected() == 1)
    }

    /// Retires a type: its history stays, new events of it are refused.
    pub async fn retire_event_type(&self, name: &EventType) -> Result<Retired, StoreError> {
        let retired = sqlx::query("UPDATE event_types SET retired_at = $2 WHERE name = $1 AND retired_at IS NULL")
            .bind(name.as_str())
            .bind(millis(self.clock.now()))
            .execute(&self.write)
            .await?;
        self.catalog.forget_event_types();
        Ok(if retired.rows_affected() == 1 { Retired::Yes } else { Retired::NotThere })
    }

    /// Whether new events of this type are taken.
    pub async fn is_event_type(&self, name: &EventType) -> Result<bool, StoreError> {
        if let Some(types) = self.catalog.event_types()
            && types.contains(name.as_str())
        {
            return Ok(true);
        }
        // Unknown here may be new on another host: ask before refusing.
        let read = self.catalog.event_types_mark();
        let names = sqlx::query_scalar("SELECT name FROM event_types WHERE retired_at IS NULL").fetch_all(&self.read);
        let names: Vec<String> = self.within_limit(async { Ok(names.await?) }).await?;
        let known = names.iter().any(|known| known == name.as_str());
        self.catalog.keep_event_types(read, names);
        Ok(known)
    }

    /// Adds what every catalogue starts with; what the operator retired stays retired.
    pub(super) async fn seed_event_types(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (name, description) in SEEDED_TYPES {
            sqlx::query("INSERT INTO event_types (name, description) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(name)
                .bind(description)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}
