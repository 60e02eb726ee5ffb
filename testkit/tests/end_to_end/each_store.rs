//! The same sentence on each store.

/// A test on each store of a function that takes the store: `drain::on_postgres::orders_come_out_once`.
macro_rules! on_each_store {
    ($($sentence:ident),+ $(,)?) => {
        on_each_store!(@ on_rocksdb Rocksdb $($sentence)+);
        on_each_store!(@ on_postgres Postgres $($sentence)+);
        on_each_store!(@ on_mongo Mongo $($sentence)+);
        on_each_store!(@ on_redis Redis $($sentence)+);
    };
    (@ $module:ident $store:ident $($sentence:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $sentence() {
                    super::$sentence(testkit::stores::Store::$store);
                }
            )+
        }
    };
}
