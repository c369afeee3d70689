//! Encrypted connections: the same files, rules and clients on PostgreSQL 15, and what each says; reloads.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use understudy_tests::certificates::{
    Certificates, Wanted, encrypted_twins, install_in_twin, psql,
};
use understudy_tests::programs::{run, run_ok};
use understudy_tests::raw::{End, Raw, query, short};
use understudy_tests::standby::eventually;
use understudy_tests::twins::{BOTH, Running, Twins, Who};

const HBA: &str = r#"
local     all    all                 trust
host      all    postgres all        trust
hostnossl all    plain    samehost   trust
hostssl   all    crypt    samehost   trust
hostssl   all    app      all        scram-sha-256
host      all    either   all        scram-sha-256
hostssl   all    ann      all        cert
hostssl   all    boss     all        cert map=certs
hostssl   all    dn       all        cert clientname=DN map=names
hostssl   all    ca       all        trust clientcert=verify-ca
hostssl   all    full     all        trust clientcert=verify-full
hostssl   all    word     all        scram-sha-256 clientcert=verify-full
hostssl   all    evil     all        reject
hostgssenc all   kerberos all        trust
"#;

const IDENT: &str = r#"
certs  /^(.*)@house$       \1
certs  ann                 boss
names  "CN=ann,O=The House" dn
"#;

const ROLES: [&str; 12] = [
    "CREATE ROLE plain LOGIN",
    "CREATE ROLE crypt LOGIN",
    "CREATE ROLE app LOGIN PASSWORD 'secret'",
    "CREATE ROLE either LOGIN PASSWORD 'secret'",
    "CREATE ROLE ann LOGIN",
    "CREATE ROLE boss LOGIN",
    "CREATE ROLE dn LOGIN",
    "CREATE ROLE ca LOGIN",
    "CREATE ROLE full LOGIN",
    "CREATE ROLE word LOGIN PASSWORD 'secret'",
    "CREATE ROLE evil LOGIN",
    "CREATE ROLE kerberos LOGIN",
];

const SSL_ON: [&str; 4] = ["-c", "ssl=on", "-c", "ssl_ca_file=root.crt"];

/// Both run with these certificates, the same roles and rules.
fn both(made: &Certificates, arguments: &[&str]) -> (Twins, [Running; 2]) {
    encrypted_twins(
        made,
        &[("pg_hba.conf", HBA), ("pg_ident.conf", IDENT)],
        &ROLES,
        arguments,
    )
}

const WHO_AM_I: &str = "SELECT current_user, ssl, version, cipher, bits, client_dn, client_serial, issuer_dn \
     FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// psql's exit code and what it prints.
fn attempt(twins: &Twins, who: Who, conninfo: &str) -> (Option<i32>, Vec<String>) {
    let target = format!("port={} dbname=postgres {conninfo}", twins.port(who));
    let output = run(&mut psql(&target, WHO_AM_I));
    let mut lines = twins.plain(who, &String::from_utf8_lossy(&output.stdout));
    lines.extend(twins.plain(who, &String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), lines)
}

/// Without ports that the system chose, without details that only we give, and without what only one of them logs. In no
/// order, because a client may come again before the server has said why its first connection ended; what belongs to a
/// line stays with it.
fn of_connections(lines: &[String]) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for line in lines {
        let (lead, rest) = line.split_once("port=").unwrap_or((line, ""));
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let line = format!("{lead}{rest}").trim_end().to_owned();
        if line.contains("could not receive data from client")
            || line.starts_with("DETAIL:  The certificate was refused")
        {
            continue;
        }
        match said.last_mut() {
            Some(last) if line.starts_with("DETAIL:") || line.starts_with("HINT:") => {
                last.push_str(" / ");
                last.push_str(&line);
            }
            _ => said.push(line),
        }
    }
    said.sort_unstable();
    said
}

/// Runs each attempt on both; output and log must be the same. A line may come late: what is compared is all that was
/// not compared before.
fn compare(twins: &Twins, attempts: &[String]) {
    let mut wrong = Vec::new();
    let mut seen = BOTH.map(|who| twins.logged(who).len());
    for conninfo in attempts {
        let [theirs, own] = BOTH.map(|who| attempt(twins, who, conninfo));
        if theirs != own {
            wrong.push(format!(
                "{conninfo}\n  PostgreSQL {theirs:?}\n  ours       {own:?}"
            ));
        }
        let until = Instant::now() + Duration::from_secs(3);
        let [theirs, own] = loop {
            let lines = BOTH.map(|who| twins.logged(who));
            let said = [0, 1].map(|i| of_connections(&lines[i][seen[i]..]));
            if said[0] == said[1] || Instant::now() > until {
                seen = lines.map(|l| l.len());
                break said;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if theirs != own {
            wrong.push(format!(
                "log of {conninfo}\n  PostgreSQL {theirs:#?}\n  ours       {own:#?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn rules_for_encrypted_connections_decide_as_postgresql_decides() {
    let made = Certificates::for_server();
    let (twins, _running) = both(
        &made,
        &[&SSL_ON[..], &["-c", "log_connections=on"]].concat(),
    );
    let mut attempts = Vec::new();
    for user in ["plain", "crypt", "evil", "kerberos", "ann", "ca", "nobody"] {
        for mode in ["disable", "allow", "prefer", "require"] {
            attempts.push(format!("host=127.0.0.1 user={user} sslmode={mode}"));
        }
    }
    for mode in ["disable", "allow", "prefer", "require"] {
        for binding in ["disable", "prefer", "require"] {
            for (user, password) in [("app", "secret"), ("app", "wrong"), ("either", "secret")] {
                attempts.push(format!(
                    "host=127.0.0.1 user={user} password={password} sslmode={mode} channel_binding={binding}"
                ));
            }
        }
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        attempts.push(format!(
            "host=127.0.0.1 user=app password=secret sslmode=require channel_binding=require ssl_min_protocol_version={version} ssl_max_protocol_version={version}"
        ));
    }
    // A unix socket is never encrypted.
    for who in BOTH {
        let data = twins.data(who);
        let target = format!(
            "host={} port={} user=plain sslmode=require",
            data.display(),
            twins.port(who)
        );
        let shown = run_ok(&mut psql(&format!("{target} dbname=postgres"), WHO_AM_I));
        assert_eq!(shown.trim(), "plain|f||||||", "{who:?}");
    }
    compare(&twins, &attempts);
}

#[test]
fn client_certificates_count_as_they_count_for_postgresql() {
    let made = Certificates::for_server();
    made.authority("other");
    let client = |name: &str, subject: String, by: &str, serial, days| {
        let wanted = Wanted {
            subject: &subject,
            names: "",
            by,
            serial,
            days,
            ..Wanted::default()
        };
        made.certificate(name, wanted);
    };
    let short = |text: &str| text.to_owned();
    client("ann", short("/O=The House/CN=ann"), "root", 4711, 30);
    client("mapped", short("/CN=boss@house"), "root", 2, 30);
    client("nobody", short("/O=nameless"), "root", 3, 30);
    client("odd", short("/O=a,b\\+c/OU=é <x>/CN=ann"), "root", 4, 30);
    client("foreign", short("/CN=ann"), "other", 5, 30);
    client("late", short("/CN=ann"), "root", 6, 0);
    let long = format!("/O={}/CN=full", "x".repeat(60));
    client("long", long, "root", 7, 30);
    let (twins, _running) = both(
        &made,
        &[&SSL_ON[..], &["-c", "log_connections=on"]].concat(),
    );
    let mut attempts = Vec::new();
    for name in ["ann", "mapped", "nobody", "odd", "foreign", "late", "long"] {
        for user in [
            "ann",
            "boss",
            "dn",
            "ca",
            "full",
            "word password=secret",
            "crypt",
        ] {
            attempts.push(format!(
                "host=127.0.0.1 user={user} sslmode=require sslcert={} sslkey={}",
                made.shown(&format!("{name}.crt")),
                made.shown(&format!("{name}.key"))
            ));
        }
    }
    // In TLS 1.2 the client hears of it within the handshake.
    for name in ["ann", "foreign", "late"] {
        attempts.push(format!(
            "host=127.0.0.1 user=ann sslmode=require ssl_max_protocol_version=TLSv1.2 sslcert={} sslkey={}",
            made.shown(&format!("{name}.crt")),
            made.shown(&format!("{name}.key"))
        ));
    }
    compare(&twins, &attempts);
}

#[test]
fn without_an_authority_no_client_certificate_counts() {
    let made = Certificates::for_server();
    made.certificate(
        "ann",
        Wanted {
            subject: "/CN=ann",
            ..Wanted::default()
        },
    );
    let (twins, _running) = both(&made, &["-c", "ssl=on"]);
    let pair = format!(
        "sslcert={} sslkey={}",
        made.shown("ann.crt"),
        made.shown("ann.key")
    );
    compare(
        &twins,
        &[
            format!("host=127.0.0.1 user=ann sslmode=require {pair}"),
            format!("host=127.0.0.1 user=ca sslmode=require {pair}"),
            format!("host=127.0.0.1 user=crypt sslmode=require {pair}"),
        ],
    );
}

#[test]
fn a_revoked_client_stays_outside() {
    let made = Certificates::for_server();
    for (name, serial) in [("good", 10), ("bad", 11)] {
        made.certificate(
            name,
            Wanted {
                subject: "/CN=ann",
                names: "",
                serial,
                ..Wanted::default()
            },
        );
    }
    made.revocation_list("root.crl", "root", &["bad"]);
    let list = String::from_utf8(made.read("root.crl")).expect("PEM");
    let (twins, _running) = encrypted_twins(
        &made,
        &[("pg_hba.conf", HBA), ("root.crl", &list)],
        &["CREATE ROLE ann LOGIN"],
        &[&SSL_ON[..], &["-c", "ssl_crl_file=root.crl"]].concat(),
    );
    let pair = |name: &str| {
        format!(
            "host=127.0.0.1 user=ann sslmode=require sslcert={} sslkey={}",
            made.shown(&format!("{name}.crt")),
            made.shown(&format!("{name}.key"))
        )
    };
    let (code, shown) = attempt(&twins, Who::Ours, &pair("good"));
    assert_eq!(code, Some(0), "{shown:?}");
    compare(&twins, &[pair("good"), pair("bad")]);
}

#[test]
fn what_the_client_checks_it_finds_here_too() {
    let made = Certificates::for_server();
    made.authority("other");
    let (twins, _running) = both(&made, &SSL_ON);
    let mut attempts = Vec::new();
    for root in ["root.crt", "other.crt", "missing.crt"] {
        for mode in ["prefer", "require", "verify-ca", "verify-full"] {
            for host in [
                "127.0.0.1",
                "localhost hostaddr=127.0.0.1",
                "db hostaddr=127.0.0.1",
            ] {
                attempts.push(format!(
                    "host={host} user=crypt sslmode={mode} sslrootcert={}",
                    made.shown(root)
                ));
            }
        }
    }
    compare(&twins, &attempts);
    let shown = run_ok(&mut psql(
        &format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=crypt dbname=postgres sslmode=verify-full sslrootcert={}",
            twins.port(Who::Ours),
            made.shown("root.crt")
        ),
        "\\conninfo",
    ));
    assert!(
        shown.contains(
            "SSL connection (protocol: TLSv1.3, cipher: TLS_AES_256_GCM_SHA384, compression: off)"
        ),
        "{shown}"
    );
}

/// A start that must be refused; the FATAL line with what belongs to it.
fn refused_start(twins: &Twins, who: Who, arguments: &[&str]) -> Vec<String> {
    let mut running = twins.launch(who, arguments);
    let ended = running.ended(Duration::from_secs(20));
    assert_eq!(ended, Some(1), "{who:?} {arguments:?}");
    let lines = twins.logged(who);
    lines
        .into_iter()
        .filter(|l| !l.starts_with("LOG:") && !l.contains("database system is shut down"))
        .collect()
}

#[test]
fn wrong_files_stop_the_start_and_are_named() {
    let made = Certificates::for_server();
    made.certificate("second", Wanted::default());
    let twins = Twins::initdb();
    for who in BOTH {
        install_in_twin(&twins, who, &made);
        twins.write(who, "second.key", made.read("second.key"));
        twins.write(who, "open.key", made.read("server.key"));
        run_ok(
            Command::new("chmod")
                .arg("0644")
                .arg(twins.data(who).join("open.key")),
        );
        twins.write(who, "garbage", "-----BEGIN CERTIFICATE-----\nnonsense\n");
        twins.write(who, "empty", "");
    }
    // Where OpenSSL gives a reason of its own in its own words, only what stands before it is compared.
    for (same, setting) in [
        (true, "ssl_cert_file=missing.crt"),
        (true, "ssl_key_file=missing.key"),
        (true, "ssl_key_file=open.key"),
        (true, "ssl_key_file=base"),
        (true, "ssl_key_file=second.key"),
        (false, "ssl_cert_file=garbage"),
        (false, "ssl_cert_file=empty"),
        (false, "ssl_key_file=empty"),
        (false, "ssl_ca_file=empty"),
        (false, "ssl_ca_file=missing.crt"),
        (false, "ssl_crl_file=missing.crl"),
        (true, "ssl_min_protocol_version=TLSv1.3"),
    ] {
        let mut arguments = vec!["-c", "ssl=on", "-c", "ssl_ca_file=root.crt", "-c", setting];
        if setting.starts_with("ssl_min") {
            arguments.extend(["-c", "ssl_max_protocol_version=TLSv1.2"]);
        }
        let said = BOTH.map(|who| {
            let lines = refused_start(&twins, who, &arguments);
            let cut = |line: String| match line.split_once("\": ") {
                Some((lead, _)) if !same => lead.to_owned(),
                _ => line,
            };
            lines.into_iter().map(cut).collect::<Vec<_>>()
        });
        assert_eq!(said[0], said[1], "{setting}");
        assert!(!said[1].is_empty(), "{setting}");
    }
    // What is not implemented is said before anything else.
    for setting in [
        "ssl_passphrase_command=cat",
        "ssl_crl_dir=crls",
        "ssl_ciphers=RC4",
    ] {
        let lines = refused_start(&twins, Who::Ours, &["-c", "ssl=on", "-c", setting]);
        let (name, _) = setting.split_once('=').expect("one");
        assert!(lines[0].contains(name), "{setting}: {lines:?}");
    }
    let encrypted = made.path("encrypted.key");
    run_ok(
        Command::new("openssl")
            .args(["pkey", "-aes256", "-passout", "pass:x", "-in"])
            .arg(made.path("server.key"))
            .arg("-out")
            .arg(&encrypted),
    );
    twins.write(Who::Ours, "encrypted.key", made.read("encrypted.key"));
    let arguments = ["-c", "ssl=on", "-c", "ssl_key_file=encrypted.key"];
    let lines = refused_start(&twins, Who::Ours, &arguments);
    assert_eq!(
        lines,
        [
            "FATAL:  could not load private key file \"encrypted.key\": it is encrypted, which is not implemented; decrypt it with \"openssl pkey\" and protect it by its permissions",
            "HINT:  ssl_passphrase_command is not implemented.",
        ]
    );
}

#[test]
fn a_reload_takes_good_certificates_and_keeps_the_old_for_bad_ones() {
    let made = Certificates::for_server();
    made.certificate(
        "second",
        Wanted {
            serial: 0x2222,
            ..Wanted::default()
        },
    );
    let (twins, running) = both(&made, &["-c", "log_connections=off"]);
    for (who, running) in BOTH.iter().zip(&running) {
        let (who, port) = (*who, twins.port(*who));
        let serial = || made.served_serial(port);
        let reload = |says: &str| {
            let before = twins.logged(who).len();
            running.signal(Signal::HUP);
            eventually(says, || {
                let lines = twins.logged(who);
                lines[before..].iter().any(|l| l.contains(says))
            });
            // It is the last thing but one that is said.
            std::thread::sleep(Duration::from_millis(300));
        };
        let off = format!("host=127.0.0.1 port={port} user=crypt dbname=postgres sslmode=require");
        let plain = run(&mut psql(&off, "SELECT 1"));
        let said = String::from_utf8_lossy(&plain.stderr).into_owned();
        assert!(
            said.contains("server does not support SSL, but SSL was required"),
            "{said}"
        );
        let conf = std::fs::read_to_string(twins.data(who).join("postgresql.conf")).expect("there");
        twins.write(who, "postgresql.conf", format!("{conf}\nssl = on\n"));
        reload("parameter \"ssl\" changed to \"on\"");
        assert_eq!(serial(), "01", "{who:?}");
        // A session that lives through everything that follows.
        let mut lasting = Raw::encrypted(port).and_then(Raw::begun).expect("a place");

        twins.write(who, "server.crt", "nonsense");
        reload("SSL configuration was not reloaded");
        assert_eq!(serial(), "01", "{who:?}");
        twins.write(who, "server.crt", made.read("second.crt"));
        reload("SSL configuration was not reloaded");
        assert_eq!(serial(), "01", "{who:?}: the key is another one's");
        twins.write(who, "server.key", made.read("second.key"));
        running.signal(Signal::HUP);
        eventually("the new certificate is shown", || serial() == "2222");

        lasting.push(&query("SELECT 1"));
        let (replies, end) = lasting.until_ready(1, Duration::from_secs(10));
        assert_eq!(
            (short(&replies).as_str(), end),
            ("T D C(SELECT 1) Z(I)", End::Ready)
        );
        twins.write(who, "postgresql.conf", format!("{conf}\nssl = off\n"));
        reload("parameter \"ssl\" changed to \"off\"");
        assert!(!run(&mut psql(&off, "SELECT 1")).status.success());
    }
}
