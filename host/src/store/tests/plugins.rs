//! Plugins and versions: whose, how many, and what may be deleted.

use super::*;
use crate::domain::plugin::{COMPONENTS_LIMIT, PLUGINS_LIMIT, VERSIONS_LIMIT};
use crate::store::components::Of;
use crate::store::{Cursor, PluginError};

#[tokio::test]
async fn a_version_is_its_bytes_and_the_last_added_is_the_newest() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    assert_eq!(world.store.plugin(&world.acme, &mine).await.unwrap().unwrap().newest, None);
    let [first, second, third] = [b"one".as_slice(), b"two", b"three"].map(Version::of);
    for component in [b"one".as_slice(), b"two", b"three"] {
        let (added, new) = world.store.add_version(&world.acme, &mine, Bytes::from_static(component)).await.unwrap();
        assert_eq!((added.version, added.size_bytes, new), (Version::of(component), component.len() as u64, true));
    }
    let (again, new) = world.store.add_version(&world.acme, &mine, Bytes::from_static(b"one")).await.unwrap();
    assert_eq!((again.version, new), (first, false), "the same bytes are the same version");
    let read = world.store.plugin(&world.acme, &mine).await.unwrap().unwrap();
    assert_eq!((read.versions, read.newest), (3, Some(third)));

    let mut seen = Vec::new();
    let mut cursor: Option<Cursor<i64>> = None;
    loop {
        let request = PageRequest { limit: 2, cursor };
        let page = world.store.versions(&world.acme, &mine, &request).await.unwrap().unwrap();
        seen.extend(page.items.into_iter().map(|version| version.version));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [third, second, first]);
    assert_eq!(world.store.component(&world.acme, &mine, second).await.unwrap().unwrap(), "two");

    world.store.delete_version(&world.acme, &mine, third).await.unwrap();
    assert_eq!(world.store.component(&world.acme, &mine, third).await.unwrap(), None);
    assert_eq!(world.store.plugin(&world.acme, &mine).await.unwrap().unwrap().newest, Some(second));
    let gone = world.store.delete_version(&world.acme, &mine, third).await;
    assert!(matches!(gone, Err(PluginError::NotFound)), "{gone:?}");
}

#[tokio::test]
async fn one_tenants_plugins_are_nobody_elses() {
    let world = World::new().await;
    let mallory: TenantId = "mallory".parse().unwrap();
    world.store.create_tenant(&mallory, "").await.unwrap().unwrap();
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"bytes").await;
    assert_eq!(world.store.plugin(&mallory, &mine).await.unwrap(), None);
    assert_eq!(world.store.plugins(&mallory, &all()).await.unwrap().items, []);
    assert!(world.store.versions(&mallory, &mine, &all()).await.unwrap().is_none());
    assert_eq!(world.store.version(&mallory, &mine, version).await.unwrap(), None);
    assert_eq!(world.store.component(&mallory, &mine, version).await.unwrap(), None);
    let refused = [
        world.store.add_version(&mallory, &mine, Bytes::from_static(b"theirs")).await.map(drop),
        world.store.delete_version(&mallory, &mine, version).await,
        world.store.delete_plugin(&mallory, &mine).await,
    ];
    assert!(refused.iter().all(|refused| matches!(refused, Err(PluginError::NotFound))), "{refused:?}");
    // The name is free for each of them, and so are the bytes.
    world.store.create_plugin(&mallory, &mine).await.unwrap();
    let (_, new) = world.store.add_version(&mallory, &mine, Bytes::from_static(b"bytes")).await.unwrap();
    assert!(new);
    world.store.delete_plugin(&mallory, &mine).await.unwrap();
    assert!(world.store.component(&world.acme, &mine, version).await.unwrap().is_some());
}

#[tokio::test]
async fn built_in_plugins_are_for_everyone_and_for_none_to_change() {
    let world = World::new().await;
    let built_in: PluginName = "redact-fields".parse().unwrap();
    let old = world.store.keep_built_in(&built_in, Bytes::from_static(b"old")).await.unwrap();
    for _ in 0..2 {
        world.store.keep_built_in(&built_in, Bytes::from_static(b"new")).await.unwrap();
    }
    let mine = world.plugin("mine").await;
    let listed = world.store.plugins(&world.acme, &all()).await.unwrap().items;
    let listed: Vec<_> = listed.iter().map(|plugin| (plugin.name.as_str(), plugin.built_in, plugin.versions)).collect();
    assert_eq!(listed, [("mine", false, 0), ("redact-fields", true, 2)]);
    assert_eq!(world.store.component(&world.acme, &built_in, old).await.unwrap().unwrap(), "old");
    let refused = [
        world.store.create_plugin(&world.acme, &built_in).await.map(drop),
        world.store.add_version(&world.acme, &built_in, Bytes::from_static(b"mine")).await.map(drop),
        world.store.delete_version(&world.acme, &built_in, old).await,
        world.store.delete_plugin(&world.acme, &built_in).await,
    ];
    assert!(refused.iter().all(|refused| matches!(refused, Err(PluginError::BuiltIn))), "{refused:?}");

    // A later release may bring the name of a tenant's own plugin: the tenant keeps its own.
    let version = world.version(&mine, b"own").await;
    world.store.keep_built_in(&mine, Bytes::from_static(b"built in")).await.unwrap();
    let read = world.store.plugin(&world.acme, &mine).await.unwrap().unwrap();
    assert_eq!((read.built_in, read.newest), (false, Some(version)));
    assert_eq!(world.store.plugins(&world.acme, &all()).await.unwrap().items.len(), 2);
    let other = Version::of(b"built in");
    assert_eq!(world.store.component(&world.acme, &mine, other).await.unwrap(), None);
    world.store.delete_plugin(&world.acme, &mine).await.unwrap();
    assert!(world.store.component(&world.acme, &mine, other).await.unwrap().is_some());
}

#[tokio::test]
async fn each_limit_refuses_by_its_name() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    for n in 1..PLUGINS_LIMIT {
        world.plugin(&format!("p{n}")).await;
    }
    let crowd = world.store.create_plugin(&world.acme, &"one-more".parse().unwrap()).await.unwrap_err();
    assert_eq!(crowd.to_string(), "a tenant has at most 100 plugins");
    let twice = world.store.create_plugin(&world.acme, &mine).await;
    assert!(matches!(twice, Err(PluginError::NameTaken)), "{twice:?}");

    for n in 0..VERSIONS_LIMIT {
        world.store.add_version(&world.acme, &mine, format!("{n}").into()).await.unwrap();
    }
    let crowd = world.store.add_version(&world.acme, &mine, Bytes::from_static(b"one more")).await.unwrap_err();
    assert_eq!(crowd.to_string(), "a plugin has at most 100 versions; delete old ones");
    let (_, new) = world.store.add_version(&world.acme, &mine, Bytes::from_static(b"7")).await.unwrap();
    assert!(!new, "what is there already takes no place");

    let other: PluginName = "p1".parse().unwrap();
    let all_but_ten = COMPONENTS_LIMIT as i64 - 10;
    sqlx::query("UPDATE plugin_versions SET size_bytes = CASE WHEN number = 1 THEN $1 ELSE 0 END")
        .bind(all_but_ten)
        .execute(&world.store.write)
        .await
        .unwrap();
    let crowd = world.store.add_version(&world.acme, &other, Bytes::from_static(b"eleven byte")).await.unwrap_err();
    assert!(matches!(crowd, PluginError::TooManyBytes), "{crowd}");
    world.store.add_version(&world.acme, &other, Bytes::from_static(b"ten bytes!")).await.unwrap();
}

#[tokio::test]
async fn a_deleted_tenant_takes_its_plugins_along() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"bytes").await;
    world.version(&mine, b"more").await;
    let endpoint = world.endpoint().await;
    world.store.attach(&world.acme, endpoint.id, vec![attachment(&mine, version, "{}")]).await.unwrap();
    world.store.delete_tenant(&world.acme).await.unwrap();
    let late = world.store.create_plugin(&world.acme, &"late".parse().unwrap()).await;
    assert!(matches!(late, Err(PluginError::NotFound)), "{late:?}");
    world.store.purge_tenant(&world.acme).await.unwrap();
    for table in ["plugins", "plugin_versions", "component_parts", "attachments", "plugin_usage", "plugin_runs"] {
        let count = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        let rows: i64 = sqlx::query_scalar(count).fetch_one(&world.store.read).await.unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test]
async fn a_component_is_kept_in_parts_and_swept_when_its_version_is_gone() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    // Ends within a part, and where a part ends.
    let sizes = [(5 << 19) + 1, 2 << 20];
    let components = sizes.map(|size| Bytes::from_iter((0..size).map(|n: usize| (n ^ (n >> 8) ^ (n >> 16)) as u8)));
    let mut versions = Vec::new();
    for component in &components {
        let added = world.store.add_version(&world.acme, &mine, component.clone()).await.unwrap().0;
        assert_eq!(world.store.component(&world.acme, &mine, added.version).await.unwrap().as_ref(), Some(component));
        versions.push(added.version);
    }
    assert_eq!(world.parts().await, [3, 2]);

    // An upload that ended half-way leaves parts that nobody sees, and that another of the same bytes completes.
    let half = Bytes::from_static(b"half");
    let of = Of { owner: world.acme.as_str(), plugin: &mine, version: Version::of(&half) };
    world.store.put_component(of, &half).await.unwrap();
    assert_eq!(world.store.component(&world.acme, &mine, of.version).await.unwrap(), None);
    world.store.delete_version(&world.acme, &mine, versions[0]).await.unwrap();
    world.sweep().await;
    assert_eq!(world.parts().await, [3, 2, 1], "an upload may go on");
    world.hand.advance(Duration::from_mins(61));
    world.store.add_version(&world.acme, &mine, half).await.unwrap();
    world.sweep().await;
    assert_eq!(world.parts().await, [2, 1]);

    world.store.delete_plugin(&world.acme, &mine).await.unwrap();
    world.hand.advance(Duration::from_mins(61));
    world.sweep().await;
    assert!(world.parts().await.is_empty());
}

impl World {
    async fn sweep(&self) {
        self.store.sweep_components(self.clock.now()).await.unwrap();
    }

    /// How many each component has, in the order they were written.
    async fn parts(&self) -> Vec<i64> {
        let counts = "SELECT COUNT(*) FROM component_parts GROUP BY tenant_id, plugin, version ORDER BY MIN(rowid)";
        sqlx::query_scalar(counts).fetch_all(&self.store.read).await.unwrap()
    }
}
