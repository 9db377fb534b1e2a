//! Hosts that share one PostgreSQL, and what may befall them.

mod moving;
