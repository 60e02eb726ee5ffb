use orchestrator::registry::Registry;

/// Everything this binary can store to. A backend is one dependency, one feature and one line.
pub fn registry() -> Registry {
    let registry = Registry::default(); // knows "memory" and "none"
    #[cfg(feature = "mongo")]
    let registry = registry
        .with("mongo", tracker_mongo::open)
        .alias("mongodb", "mongo");
    #[cfg(feature = "postgres")]
    let registry = registry.with("postgres", tracker_postgres::open);
    #[cfg(feature = "redis")]
    let registry = registry.with("redis", tracker_redis::open);
    #[cfg(feature = "rocksdb")]
    let registry = registry.with("rocksdb", tracker_rocksdb::open);
    registry
}
