//! Until there is a session: who is let in, who is refused, and what a stranger can learn from it.

use super::*;

#[tokio::test]
async fn every_error_before_the_session_is_fatal() {
    let s = start(Accepting::Yes, "");
    let user = |u: &str, d: &str| startup(&[("user", u), ("database", d)]);
    for (bytes, code, text) in [
        (
            user("ghost", "db"),
            "28000",
            "role \"ghost\" does not exist",
        ),
        (
            user("nologin", "db"),
            "28000",
            "role \"nologin\" is not permitted to log in",
        ),
        (
            user("joe", "none"),
            "3D000",
            "database \"none\" does not exist",
        ),
        (
            user("joe", "closed"),
            "55000",
            "database \"closed\" is not currently accepting connections",
        ),
        (
            user("rejected", "db"),
            "28000",
            "pg_hba.conf rejects connection for host \"[local]\", user \"rejected\", database \"db\", no encryption",
        ),
        (
            user("stranger", "db"),
            "28000",
            "no pg_hba.conf entry for host \"[local]\", user \"stranger\", database \"db\", no encryption",
        ),
        (
            user("nobody_here", "db"),
            "28000",
            "Peer authentication failed for user \"nobody_here\"",
        ),
        (
            startup(&[("database", "db")]),
            "28000",
            "no PostgreSQL user name specified in startup packet",
        ),
        (
            startup(&[("user", "joe"), ("replication", "on")]),
            "42501",
            "must be superuser or replication role to start walsender",
        ),
        (
            startup(&[("user", "joe"), ("replication", "maybe")]),
            "22023",
            "invalid value for parameter \"replication\": \"maybe\"",
        ),
        (
            startup(&[("user", "joe"), ("options", "-x")]),
            "42601",
            "invalid command-line argument for server process: -x",
        ),
        (
            b"\0\0\0\x08\0\x02\0\0".to_vec(),
            "0A000",
            "unsupported frontend protocol 2.0: server supports 3.0 to 3.0",
        ),
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "08P01",
            "invalid length of startup packet",
        ),
        (
            b"\0\0\0\x0a\0\x03\0\0ab".to_vec(),
            "08P01",
            "invalid startup packet layout: expected terminator as last byte",
        ),
    ] {
        let (got_code, got_text) = refused(&s, &bytes).await;
        assert_eq!((got_code.as_str(), got_text.as_str()), (code, text));
    }
    assert_eq!(s.opened.load(Ordering::Relaxed), 0, "nobody got in");
    assert_eq!(s.backends.all().len(), 0);
}

#[tokio::test]
async fn the_server_s_own_state_is_told() {
    for (accepting, text) in [
        (Accepting::StartingUp, "the database system is starting up"),
        (
            Accepting::ShuttingDown,
            "the database system is shutting down",
        ),
        (
            Accepting::NotConsistent { hot_standby: true },
            "the database system is not yet accepting connections",
        ),
        (
            Accepting::NotConsistent { hot_standby: false },
            "the database system is not accepting connections",
        ),
    ] {
        let s = start(accepting, "");
        let got = refused(&s, &startup(&[("user", "joe")])).await;
        assert_eq!(got, ("57P03".to_owned(), text.to_owned()));
    }
}

/// SCRAM to its end; what the server says last.
async fn scram(server: &Running, user: &str, password: &str) -> (Client, Reply) {
    let mut c = Client::connect(&server.socket).await;
    c.send(&startup(&[("user", user)])).await;
    let (tag, offer) = c.reply().await.expect("an offer");
    assert_eq!((tag, &offer[..4]), (b'R', &[0, 0, 0, 10][..]));
    let mut exchange = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let first = exchange.message().to_vec();
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend(u32::try_from(first.len()).expect("short").to_be_bytes());
    body.extend(first);
    c.send(&message(b'p', &body)).await;
    let (_, challenge) = c.reply().await.expect("a challenge");
    exchange
        .update(&challenge[4..])
        .expect("a well formed challenge");
    c.send(&message(b'p', exchange.message())).await;
    let last = c.reply().await.expect("a verdict");
    (c, last)
}

#[tokio::test]
async fn only_the_right_password_opens_and_all_others_look_alike() {
    let s = start(Accepting::Yes, "");
    let (mut c, last) = scram(&s, "pw", "secret").await;
    assert_eq!(last.0, b'R');
    assert_eq!(c.tags().await, "RKZ");
    for (user, password) in [
        ("pw", "wrong"),
        ("ghost_pw", "secret"),
        ("nopw", "secret"),
        ("expired", "secret"),
    ] {
        let (mut c, last) = scram(&s, user, password).await;
        let text = format!("password authentication failed for user \"{user}\"");
        assert_eq!(
            fields(&last),
            ("FATAL".to_owned(), "28P01".to_owned(), text)
        );
        assert!(c.reply().await.is_none());
    }
    assert_eq!(s.opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn garbage_in_place_of_a_password_ends_it() {
    let s = start(Accepting::Yes, "");
    for bytes in [
        message(b'Q', b"SELECT 1\0"),
        message(b'p', b""),
        message(b'p', b"SCRAM-SHA-256\0\0\0\0\x05n,,n=,r=x"),
        message(b'p', b"SCRAM-SHA-256-PLUS\0\0\0\0\0"),
        b"p\x7f\xff\xff\xff".to_vec(),
    ] {
        let mut c = Client::connect(&s.socket).await;
        c.send(&startup(&[("user", "pw")])).await;
        assert_eq!(c.reply().await.expect("an offer").0, b'R');
        c.send(&bytes).await;
        let e = fields(&c.reply().await.expect("an error"));
        assert_eq!(
            (e.0.as_str(), e.1.as_str()),
            ("FATAL", "08P01"),
            "{bytes:?}"
        );
        assert!(c.reply().await.is_none());
    }
    assert_eq!(s.opened.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn encryption_is_refused_and_a_time_out_ends_the_wait() {
    let s = start(Accepting::Yes, "authentication_timeout = 1s\n");
    let mut c = Client::connect(&s.socket).await;
    for code in [80_877_104u32, 80_877_103] {
        c.send(&[&8u32.to_be_bytes()[..], &code.to_be_bytes()].concat())
            .await;
        let mut answer = [0];
        c.0.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(answer, *b"N");
    }
    let e = fields(&c.reply().await.expect("an error"));
    assert_eq!(e.2, "canceling authentication due to timeout");
    assert!(c.reply().await.is_none());
}

#[tokio::test]
async fn slots_are_limited_and_some_reserved() {
    let s = start(
        Accepting::Yes,
        "max_connections = 3\nsuperuser_reserved_connections = 1\n",
    );
    let _one = Client::login(&s.socket, "one").await;
    let user = |u: &str| startup(&[("user", u)]);
    assert_eq!(
        refused(&s, &user("one")).await.1,
        "too many connections for role \"one\""
    );
    let two = Client::login(&s.socket, "joe").await;
    assert_eq!(
        refused(&s, &user("joe")).await,
        (
            state::TOO_MANY_CONNECTIONS.to_owned(),
            "remaining connection slots are reserved for non-replication superuser connections"
                .to_owned()
        )
    );
    let _boss = Client::login(&s.socket, "boss").await;
    assert_eq!(
        refused(&s, &user("boss")).await.1,
        "sorry, too many clients already"
    );
    drop(two);
    for _ in 0..100 {
        if s.backends.count(BackendKind::Client) < 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _again = Client::login(&s.socket, "boss").await;
}
