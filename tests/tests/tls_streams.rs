//! Replication over encrypted connections: what our own client checks, with `pg_basebackup` 15 as the referee, and
//! standbys that stream over them.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use understudy_tests::certificates::{Certificates, Wanted, encrypted_server};
use understudy_tests::programs::{postgres, run, run_ok};
use understudy_tests::server::{Server, Stop};
use understudy_tests::standby::eventually;

const STREAMS: &str = "\
local   all         all              trust
host    all         postgres all     trust
hostssl replication repl     all     scram-sha-256
hostssl replication standby  all     cert
host    replication all      all     reject
";

fn primary(made: &Certificates) -> Server {
    let server = encrypted_server(made, STREAMS, "");
    server.psql("CREATE ROLE repl LOGIN REPLICATION PASSWORD 'secret'");
    server.psql("CREATE ROLE standby LOGIN REPLICATION");
    server
}

#[test]
fn a_standby_streams_over_a_verified_connection() {
    let made = Certificates::for_server();
    made.certificate(
        "standby",
        Wanted {
            subject: "/CN=standby",
            names: "",
            serial: 9,
            ..Wanted::default()
        },
    );
    let primary = primary(&made);
    for (name, who) in [
        (
            "by_password",
            "user=repl password=secret channel_binding=require".to_owned(),
        ),
        (
            "by_certificate",
            format!(
                "user=standby sslcert={} sslkey={}",
                made.shown("standby.crt"),
                made.shown("standby.key")
            ),
        ),
    ] {
        let target = format!(
            "host=localhost hostaddr=127.0.0.1 port={} {who} sslmode=verify-full sslrootcert={}",
            primary.port,
            made.shown("root.crt")
        );
        let mut standby = Server::filled(|data| {
            let mut command = Command::new(postgres("pg_basebackup"));
            command.args(["-c", "fast", "-X", "stream", "-R", "-d", &target, "-D"]);
            run_ok(command.arg(data));
        });
        standby.configure(&format!("cluster_name = '{name}'"));
        standby.start();
        primary.wait_for_stream(name);
        primary.psql(&format!(
            "CREATE TABLE {name} (n int); INSERT INTO {name} VALUES (1)"
        ));
        primary.wait_for_replay(&standby);
        assert_eq!(standby.psql(&format!("TABLE {name}")).trim(), "1");
        let shown = primary.psql(&format!(
            "SELECT ssl, version, client_dn FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) WHERE application_name = '{name}'"
        ));
        let dn = if name == "by_certificate" {
            "/CN=standby"
        } else {
            ""
        };
        assert_eq!(shown.trim(), format!("t|TLSv1.3|{dn}"));
        // The stream goes on where the primary's certificate was renewed, and finds it again after a break.
        assert!(standby.stop(Stop::Fast).success());
        standby.start();
        primary.wait_for_stream(name);
    }
}

/// `understudy basebackup` and `pg_basebackup` with the same connection string: whether it worked, and what was said.
fn seeds(target: &str, into: &Path) -> [(bool, String); 2] {
    let ours = understudy_tests::programs::ours("understudy");
    [
        (postgres("pg_basebackup"), vec!["-X", "none"]),
        (ours, vec!["basebackup"]),
    ]
    .map(|(program, first)| {
        let mut command = Command::new(program);
        command.env("HOME", "/nonexistent").env_remove("PGPASSWORD");
        if first[0] == "basebackup" {
            command.args(["basebackup", "-c", "fast"]);
        } else {
            command.args(&first).args(["-c", "fast"]);
        }
        command.args(["-d", target, "-D"]).arg(into);
        let output = run(&mut command);
        let _ = std::fs::remove_dir_all(into);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    })
}

/// Whether a seed works with this connection string, and a part of what is said where it does not. `DIR` stands for
/// the certificates' folder.
fn ways_to_connect() -> Vec<(bool, String, &'static str)> {
    let word = "user=repl password=secret";
    let file = "sslrootcert=DIR/root.crt";
    let pair = "user=standby sslcert=DIR/standby.crt sslkey=DIR";
    vec![
        (false, format!("{word} sslmode=disable"), "no encryption"),
        (true, format!("{word} sslmode=allow"), ""),
        (true, format!("{word} sslmode=prefer"), ""),
        (true, word.to_owned(), ""),
        (true, format!("{word} sslmode=require"), ""),
        (
            true,
            format!("{word} sslmode=require channel_binding=require"),
            "",
        ),
        (
            true,
            format!("{word} sslmode=require channel_binding=disable"),
            "",
        ),
        (true, format!("{word} sslmode=verify-ca {file}"), ""),
        (
            true,
            format!("{word} host=localhost sslmode=verify-full {file}"),
            "",
        ),
        (
            true,
            format!("{word} host=127.0.0.1 sslmode=verify-full {file}"),
            "",
        ),
        (
            false,
            format!("{word} host=db sslmode=verify-full {file}"),
            "server certificate for \"localhost\" (and 1 other name) does not match host name \"db\"",
        ),
        (
            false,
            format!("{word} sslmode=verify-full {file}"),
            "host name must be specified for a verified SSL connection",
        ),
        (
            false,
            format!("{word} sslmode=verify-ca sslrootcert=DIR/other.crt"),
            "SSL error: certificate verify failed",
        ),
        (
            false,
            format!("{word} sslmode=require sslrootcert=DIR/other.crt"),
            "SSL error: certificate verify failed",
        ),
        (
            false,
            format!("{word} sslmode=verify-ca sslrootcert=DIR/none.crt"),
            "root certificate file \"DIR/none.crt\" does not exist",
        ),
        (
            false,
            format!("{word} sslmode=sometimes"),
            "invalid sslmode value: \"sometimes\"",
        ),
        (
            false,
            format!("{word} sslmode=disable channel_binding=require"),
            "no encryption",
        ),
        (true, format!("{pair}/standby.key sslmode=require"), ""),
        (
            false,
            format!("{pair}/none.key sslmode=require"),
            "certificate present, but not private key file \"DIR/none.key\"",
        ),
        (
            false,
            format!("{pair}/open.key sslmode=require"),
            "private key file \"DIR/open.key\" has group or world access",
        ),
        (
            false,
            format!("{pair}/root.key sslmode=require"),
            "could not load private key file \"DIR/root.key\": key values mismatch",
        ),
        (
            false,
            "user=standby sslmode=require sslcert=DIR/none.crt".to_owned(),
            "connection requires a valid client certificate",
        ),
    ]
}

#[test]
fn our_client_checks_what_libpq_checks() {
    let made = Certificates::for_server();
    made.authority("other");
    made.certificate(
        "standby",
        Wanted {
            subject: "/CN=standby",
            names: "",
            serial: 9,
            ..Wanted::default()
        },
    );
    std::fs::copy(made.path("standby.key"), made.path("open.key")).expect("copied");
    run_ok(Command::new("chmod").arg("0644").arg(made.path("open.key")));
    let primary = primary(&made);
    let folder = made.shown("").trim_end_matches('/').to_owned();
    let target = |rest: &str| {
        let rest = rest.replace("DIR", &folder);
        format!("hostaddr=127.0.0.1 port={} {rest}", primary.port)
    };
    let word = "user=repl password=secret";
    let file = "sslrootcert=DIR/root.crt";
    for (works, rest, says) in ways_to_connect() {
        let says = says.replace("DIR", &folder);
        let into = made.path("seed");
        let answers = seeds(&target(&rest), &into);
        for (who, (worked, said)) in ["pg_basebackup", "ours"].iter().zip(&answers) {
            assert_eq!(*worked, works, "{who}: {rest}\n{said}");
            assert!(said.contains(&says), "{who}: {rest}\n{said}\nnot {says:?}");
        }
    }
    // A revocation list is asked too.
    made.revocation_list("none.crl", "root", &[]);
    made.revocation_list("all.crl", "root", &["server"]);
    for (works, list) in [(true, "none.crl"), (false, "all.crl")] {
        let rest = format!("{word} sslmode=verify-ca {file} sslcrl=DIR/{list}");
        for (who, (worked, said)) in ["pg_basebackup", "ours"]
            .iter()
            .zip(seeds(&target(&rest), &made.path("seed")))
        {
            assert_eq!(worked, works, "{who}: {list}: {said}");
        }
    }
}

#[test]
fn an_expired_server_certificate_is_noticed_by_who_checks() {
    let made = Certificates::new();
    made.certificate(
        "server",
        Wanted {
            days: 0,
            ..Wanted::default()
        },
    );
    let primary = primary(&made);
    for (works, mode) in [(true, "require"), (false, "verify-ca")] {
        let root = if works { "none.crt" } else { "root.crt" };
        let target = format!(
            "host=127.0.0.1 port={} user=repl password=secret sslmode={mode} sslrootcert={}",
            primary.port,
            made.shown(root)
        );
        for (worked, said) in seeds(&target, &made.path("seed")) {
            assert_eq!(worked, works, "{mode}: {said}");
            assert!(
                works || said.contains("certificate verify failed"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_standby_says_why_it_does_not_reach_its_primary() {
    let made = Certificates::for_server();
    let primary = primary(&made);
    let mut standby = Server::filled(|data| {
        let mut command = Command::new(postgres("pg_basebackup"));
        let target = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=repl password=secret sslmode=require",
            primary.port
        );
        command.args(["-c", "fast", "-X", "stream", "-R", "-d", &target, "-D"]);
        run_ok(command.arg(data));
    });
    standby.configure("cluster_name = 'standby'");
    let conninfo = |host: &str| {
        format!(
            "primary_conninfo = 'host={host} hostaddr=127.0.0.1 port={} user=repl password=secret sslmode=verify-full sslrootcert={}'",
            primary.port,
            made.shown("root.crt")
        )
    };
    let auto = standby.data().join("postgresql.auto.conf");
    std::fs::write(&auto, conninfo("elsewhere")).expect("writable");
    standby.start();
    eventually("the name is refused", || {
        standby.log().contains(
            "server certificate for \"localhost\" (and 1 other name) does not match host name \"elsewhere\"",
        )
    });
    std::fs::write(&auto, conninfo("localhost")).expect("writable");
    standby.signal(Signal::HUP);
    primary.wait_for_stream("standby");
}
