//! What somebody brings along from Spring Boot: its variables, its spellings, its stores for TLS.

use super::{LEAST, bad, good, origin};
use crate::config::{Loaded, Origin, Settings};

/// The common, consumer's and producer's setting of librdkafka by this name.
fn property<'a>(settings: &'a Settings, section: &str, name: &str) -> Option<&'a str> {
    let kafka = &settings.kafka;
    match section {
        "properties" => kafka.common.get(name),
        "consumer" => kafka.consumer.get(name),
        _ => kafka.producer.get(name),
    }
}

#[test]
fn a_variable_of_springs_lies_over_the_file_in_each_of_its_spellings() {
    for variables in [
        &[("SPRING_KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2")][..],
        &[("SPRING_KAFKA_BOOTSTRAPSERVERS", "a:1, b:2")],
        &[("SPRING_KAFKA_CONSUMER_BOOTSTRAP_SERVERS", "a:1;b:2")],
        &[
            ("SPRING_KAFKA_BOOTSTRAP_SERVERS_0", "a:1"),
            ("SPRING_KAFKA_BOOTSTRAP_SERVERS_1", "b:2"),
        ],
        &[
            ("SPRING_KAFKA_BOOTSTRAPSERVERS_0_", "a:1"),
            ("SPRING_KAFKA_BOOTSTRAPSERVERS_1_", "b:2"),
        ],
    ] {
        let loaded = good(LEAST, variables, &[]);
        assert_eq!(loaded.settings.bootstrap_servers, "a:1,b:2", "{variables:?}");
        let from = origin(&loaded, "bootstrap-servers");
        assert_eq!(*from, Origin::Variable(variables[0].0.to_owned()));
        let told = loaded.warnings.join("\n");
        assert!(
            told.contains(variables[0].0) && told.contains("orchestrator.yml:2:"),
            "{told}"
        );
    }
    let loaded = good(
        LEAST,
        &[
            ("SPRING_KAFKA_CONSUMER_GROUP_ID", "spring"),
            ("SPRING_KAFKA_BOOTSTRAP_SERVERS", "spring:1"),
            ("ORCHESTRATOR_BOOTSTRAP_SERVERS", "ours:1"),
            ("SPRING_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("SPRING_KAFKA_PROPERTIES_SASL_MECHANISM", "PLAIN"),
            ("SPRING_KAFKA_PRODUCER_PROPERTIES_LINGER_MS", "7"),
            ("SERVER_PORT", "9999"),
        ],
        &[],
    );
    let settings = &loaded.settings;
    assert_eq!(settings.group_id, "spring");
    assert_eq!(
        settings.bootstrap_servers, "ours:1",
        "our own variable lies over Spring's"
    );
    assert_eq!(settings.management_address.port(), 9999);
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.contains("SERVER_PORT"))
    );
    for (section, name, wanted) in [
        ("properties", "security.protocol", "SASL_PLAINTEXT"),
        ("properties", "sasl.mechanism", "PLAIN"),
        ("producer", "linger.ms", "7"),
    ] {
        assert_eq!(property(settings, section, name), Some(wanted));
    }
}

#[test]
fn no_variable_of_springs_is_passed_over_without_a_word() {
    for (variable, told) in [
        ("SPRING_KAFKA_BOOTSTRAP_SERVER", "SPRING_KAFKA_BOOTSTRAP_SERVERS"),
        ("SPRING_KAFKA_ADMIN_FAIL_FAST", "not used"),
        ("SPRING_PROFILES_ACTIVE", "profiles"),
        ("SPRING_CONFIG_LOCATION", "--config"),
        ("SPRING_DATASOURCE_URL", "not used"),
    ] {
        let loaded = good(LEAST, &[(variable, "hunter2")], &[]);
        let warnings = loaded.warnings.join("\n");
        assert!(
            warnings.contains(variable) && warnings.contains(told),
            "{variable}: {warnings}"
        );
        assert!(!warnings.contains("hunter2"), "{warnings}");
    }
    let json = r#"{"spring":{"kafka":{"bootstrap-servers":"b:1"}}}"#;
    assert!(bad(LEAST, &[("SPRING_APPLICATION_JSON", json)]).contains("not read here"));
}

#[test]
fn springs_spellings_and_lists_of_brokers_are_understood() {
    let rest = LEAST.replace("  bootstrap-servers: localhost:9092\n", "");
    for written in [
        "spring: {kafka: {bootstrapServers: \"a:1,b:2\"}}",
        "spring: {kafka: {BOOTSTRAP_SERVERS: \"a:1,b:2\"}}",
        "spring.kafka.bootstrap-servers: a:1;b:2",
        "spring:\n  kafka:\n    bootstrap-servers:\n      - a:1\n      - b:2",
        "spring.kafka.bootstrap-servers[0]: a:1\nspring.kafka.bootstrap-servers[1]: b:2",
        "spring.kafka.bootstrap-servers: >\n  a:1\n  b:2",
        "orchestrator.bootstrap-servers: [a:1, b:2]",
        "orchestrator.bootstrap-servers: ' a:1 ; b:2 '",
    ] {
        let loaded = good(&format!("{rest}{written}\n"), &[], &[]);
        assert_eq!(loaded.settings.bootstrap_servers, "a:1,b:2", "{written}");
    }
    let told = bad(&format!("{rest}orchestrator.bootstrap-servers: a:1b:2\n"), &[]);
    assert!(told.contains("host:port,host:port"), "{told}");
    let loaded = good(
        &format!(
            "{rest}orchestrator.bootstrap-servers: '[::1]:9092'\nspring.kafka.consumer.fetchMinSize: 5\n"
        ),
        &[],
        &[],
    );
    assert_eq!(loaded.settings.bootstrap_servers, "[::1]:9092");
    assert_eq!(
        property(&loaded.settings, "consumer", "fetch.min.bytes"),
        Some("5")
    );
}

#[test]
fn two_clusters_for_one_service_are_refused() {
    let file = format!(
        "{LEAST}spring.kafka.consumer.bootstrap-servers: a:1\nspring.kafka.producer.bootstrap-servers: b:1\n"
    );
    assert!(bad(&file, &[]).contains("set twice, to different values"));
}

#[test]
fn a_second_document_is_refused_with_its_place() {
    let told = bad(
        &format!("{LEAST}---\nspring.kafka.bootstrap-servers: other:9092\n"),
        &[],
    );
    assert!(
        told.contains("orchestrator.yml:8:") && told.contains("second document"),
        "{told}"
    );
    good(&format!("---\n{LEAST}---\n# nothing\n"), &[], &[]);
}

#[test]
fn springs_tls_is_librdkafkas_where_both_can_read_it() {
    let file = format!(
        "{LEAST}spring.kafka.ssl:
  trust-store-location: file:/tls/ca.pem
  keyStoreLocation: file:///tls/keys.p12
  key-store-password: changeit
spring.kafka.consumer.ssl:
  key-store-location: /tls/both.pem
  key-password: changeit2
spring.kafka.producer.ssl:
  trust-store-certificates: |
    -----BEGIN CERTIFICATE-----
spring.kafka.producer.properties:
  ssl.truststore.location: /tls/other.crt
  ssl.endpoint.identification.algorithm: ''
"
    );
    let loaded = good(&file, &[("SPRING_KAFKA_SSL_KEY_STORE_TYPE", "PKCS12")], &[]);
    for (section, name, wanted) in [
        ("properties", "ssl.ca.location", Some("/tls/ca.pem")),
        ("properties", "ssl.keystore.location", Some("/tls/keys.p12")),
        ("properties", "ssl.keystore.password", Some("changeit")),
        ("properties", "ssl.key.password", None),
        ("consumer", "ssl.certificate.location", Some("/tls/both.pem")),
        ("consumer", "ssl.key.location", Some("/tls/both.pem")),
        ("consumer", "ssl.key.password", Some("changeit2")),
        ("producer", "ssl.ca.location", Some("/tls/other.crt")),
        ("producer", "ssl.ca.pem", Some("-----BEGIN CERTIFICATE-----")),
        ("producer", "ssl.endpoint.identification.algorithm", Some("none")),
    ] {
        assert_eq!(
            property(&loaded.settings, section, name),
            wanted,
            "{section} {name}"
        );
    }
    assert!(!format!("{:?} {:?}", loaded.values, loaded.warnings).contains("changeit"));
    let variables = [
        ("SPRING_KAFKA_SSL_TRUST_STORE_LOCATION", "/tls/roots"),
        ("SPRING_KAFKA_SSL_TRUSTSTORETYPE", "PEM"),
    ];
    let loaded = good(LEAST, &variables, &[]);
    assert_eq!(
        property(&loaded.settings, "properties", "ssl.ca.location"),
        Some("/tls/roots")
    );
}

#[test]
fn what_only_java_reads_is_refused_with_the_command_that_converts_it() {
    for (written, told) in [
        ("trust-store-location: /tls/trust.jks", "keytool -list -rfc"),
        ("trust-store-location: /tls/trust.p12", "keytool -list -rfc"),
        ("key-store-location: /tls/keys.jks", "-deststoretype PKCS12"),
        ("key-store-location: classpath:keys.p12", "no classpath"),
        ("key-store-location: /tls/keys", "key-store-type"),
        ("bundle: mine", "SSL bundles"),
    ] {
        let file = format!("{LEAST}spring.kafka.ssl:\n  {written}\n  key-store-password: changeit\n");
        let answer = bad(&file, &[]);
        assert!(
            answer.contains("orchestrator.yml:8:") && answer.contains(told),
            "{written}: {answer}"
        );
        assert!(!answer.contains("changeit"), "{answer}");
    }
    let file = format!("{LEAST}  kafka: {{properties: {{ssl.truststore.location: /tls/trust.jks}}}}\n");
    let answer = bad(&file, &[]);
    assert!(answer.contains("ssl.ca.location"), "{answer}");
}

#[test]
fn javas_login_module_gives_user_and_password_and_is_never_shown() {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"who\" password=\"hunter22\";";
    let ours = format!("{LEAST}  kafka: {{properties: {{sasl.jaas.config: '{module}'}}}}\n");
    let springs = format!("{LEAST}spring.kafka.properties:\n  sasl.jaas.config: '{module}'\n");
    let options = format!("{LEAST}spring.kafka.jaas.options: {{username: who, password: hunter22}}\n");
    let variable = [("SPRING_KAFKA_PROPERTIES_SASL_JAAS_CONFIG", module)];
    for (file, variables) in [
        (&*ours, &[][..]),
        (&springs, &[]),
        (&options, &[]),
        (LEAST, &variable),
    ] {
        let loaded = good(file, variables, &[]);
        let get = |name| property(&loaded.settings, "properties", name);
        assert_eq!(
            (get("sasl.username"), get("sasl.password")),
            (Some("who"), Some("hunter22"))
        );
        assert_eq!(get("sasl.jaas.config"), None);
        assert!(!format!("{loaded:?}").contains("hunter22"));
    }
    let told = bad(&springs.replace("required", "hunter22"), &[]);
    assert!(
        told.contains("login module") && !told.contains("hunter22"),
        "{told}"
    );
}

#[test]
fn warnings_are_told_also_where_there_are_faults() {
    let told = bad(
        &format!("{LEAST}  ordering: keys\nspring.kafka.admin.fail-fast: true\n"),
        &[("GROUP_ID", "other"), ("ORCHESTRATOR_CONCURENCY", "2")],
    );
    for part in [
        "keys",
        "spring.kafka.admin.fail-fast",
        "GROUP_ID",
        "ORCHESTRATOR_CONCURRENCY",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn an_unprefixed_variable_that_lies_over_the_file_is_said() {
    let loaded = good(LEAST, &[("GROUP_ID", "other")], &[]);
    assert_eq!(loaded.settings.group_id, "other");
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings)
    };
    assert!(
        warning.contains("GROUP_ID") && warning.contains("orchestrator.yml:3:"),
        "{warning}"
    );
    // The same value, or one that the file itself takes from the variable, misleads nobody.
    for file in [
        LEAST.to_owned(),
        LEAST.replace("group-id: orders", "group-id: ${GROUP_ID:x}"),
    ] {
        assert_eq!(good(&file, &[("GROUP_ID", "orders")], &[]).warnings, [""; 0]);
    }
    assert_eq!(
        good(LEAST, &[("ORCHESTRATOR_GROUP_ID", "other")], &[]).warnings,
        [""; 0]
    );
}

#[test]
fn kubernetes_variables_for_a_service_of_our_name_are_passed_over() {
    let variables = [
        ("ORCHESTRATOR_PORT", "tcp://10.0.0.1:8080"),
        ("ORCHESTRATOR_SERVICE_HOST", "10.0.0.1"),
        ("ORCHESTRATOR_SERVICE_PORT", "8080"),
        ("ORCHESTRATOR_SERVICE_PORT_HTTP_METRICS", "8080"),
        ("ORCHESTRATOR_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("ORCHESTRATOR_PORT_8080_TCP_PROTO", "tcp"),
        ("ORCHESTRATOR_PORT_8080_TCP_PORT", "8080"),
        ("ORCHESTRATOR_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("ORCHESTRATOR_KAFKA_PROPERTIES_PORT", "tcp://10.0.0.2:9092"),
        ("ORCHESTRATOR_KAFKA_PROPERTIES_PORT_53_UDP_ADDR", "10.0.0.2"),
        ("ORCHESTRATOR_KAFKA_PROPERTIES_SERVICE_HOST", "10.0.0.2"),
        ("SERVER_PORT", "tcp://10.0.0.3:80"),
    ];
    let loaded = good(LEAST, &variables, &[]);
    assert_eq!(loaded.warnings, [""; 0]);
    let without = good(LEAST, &[], &[]);
    let values = |loaded: &Loaded| {
        let pairs = loaded
            .values
            .iter()
            .map(|shown| (shown.key.clone(), shown.value.clone()));
        pairs.collect::<Vec<_>>()
    };
    assert_eq!(values(&loaded), values(&without));
    // A misspelt key is none of theirs.
    let loaded = good(LEAST, &[("ORCHESTRATOR_MANAGEMENT_PORT", "8080")], &[]);
    assert_eq!(loaded.warnings.len(), 1);
}
