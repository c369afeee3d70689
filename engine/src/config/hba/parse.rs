//! Reading `pg_hba.conf`: PostgreSQL's tokens (quotes, commas, `@file`) and its messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::{
    AddressRule, AuthMethod, CertificateName, ClientCert, ConnectionKind, DatabaseRule, Hba,
    HbaError, HbaRecord, UserRule,
};
use crate::config::conf_file::os_message;

const MAX_INCLUDE_DEPTH: usize = 10;
/// Longer words are errors, as in PostgreSQL (`MAX_TOKEN`).
const MAX_TOKEN: usize = 10_240;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    /// A quoted word is a name, never a keyword.
    quoted: bool,
}

impl Token {
    fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }
}

/// A field is a comma-separated list.
pub(super) type Field = Vec<Token>;

pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// PostgreSQL gives no line for what its tokenizer finds.
    pub(super) in_tokens: bool,
}

pub(super) fn fault(message: impl Into<String>) -> Fault {
    Fault {
        message: message.into(),
        hint: None,
        in_tokens: false,
    }
}

fn token_fault(message: String) -> Fault {
    Fault {
        in_tokens: true,
        ..fault(message)
    }
}

/// A line ends at a zero byte, as in PostgreSQL. What is not UTF-8 becomes a zero character, which no client can send,
/// so that it matches nobody.
pub(super) fn as_text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let end = line.iter().position(|b| *b == 0).unwrap_or(line.len());
        for chunk in line[..end].utf8_chunks() {
            out.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                out.push('\0');
            }
        }
        if end < line.len() && line.ends_with(b"\n") {
            out.push('\n');
        }
    }
    out
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Hba, Vec<HbaError>> {
    let mut records = Vec::new();
    let mut errors = Vec::new();
    let mut notes = Vec::new();
    let context = |line: u32| {
        Some(format!(
            "line {line} of configuration file \"{}\"",
            path.display()
        ))
    };
    for (number, line) in logical_lines(text) {
        let fields = match fields_of(&line, path.parent().unwrap_or(Path::new("")), 1) {
            Ok(fields) if fields.is_empty() => continue,
            Ok(fields) => Ok(fields),
            Err(f) => Err(f),
        };
        match fields.and_then(|f| record(&f, number, &line)) {
            Ok(r) => {
                if r.kind == ConnectionKind::HostSsl {
                    notes.push(HbaError {
                        line: number,
                        message: "hostssl record cannot match because SSL is disabled".to_owned(),
                        hint: Some("Set ssl = on in postgresql.conf.".to_owned()),
                        context: context(number),
                    });
                }
                records.push(r);
            }
            Err(f) => errors.push(HbaError {
                line: number,
                message: f.message,
                hint: f.hint,
                context: context(number).filter(|_| !f.in_tokens),
            }),
        }
    }
    if errors.is_empty() {
        Ok(Hba {
            records: records.into(),
            notes,
        })
    } else {
        Err(errors)
    }
}

/// Lines with a backslash at their end go on in the next.
pub(super) fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut out = Vec::new();
    let mut open: Option<(u32, String)> = None;
    for (number, line) in (1u32..).zip(text.lines()) {
        let (start, mut whole) = open.take().unwrap_or((number, String::new()));
        match line.strip_suffix('\\') {
            Some(part) => {
                whole.push_str(part);
                open = Some((start, whole));
            }
            None => {
                whole.push_str(line);
                out.push((start, whole));
            }
        }
    }
    out.extend(open);
    out
}

pub(super) fn fields_of(line: &str, dir: &Path, depth: usize) -> Result<Vec<Field>, Fault> {
    let mut fields = Vec::new();
    // Commas before a word mean nothing; one right behind it goes on with the list, even over white space.
    let skip = |s: &str| {
        s.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',')
            .len()
    };
    let mut rest = &line[line.len() - skip(line)..];
    while !rest.is_empty() && !rest.starts_with('#') {
        let mut field = Vec::new();
        loop {
            let (token, after) = token(rest)?;
            if let Some(token) = token {
                include_or_push(token, dir, depth, &mut field)?;
            }
            rest = &after[after.len() - skip(after)..];
            if !after.starts_with(',') || rest.is_empty() || rest.starts_with('#') {
                break;
            }
        }
        if !field.is_empty() {
            fields.push(field);
        }
    }
    Ok(fields)
}

fn include_or_push(token: Token, dir: &Path, depth: usize, out: &mut Field) -> Result<(), Fault> {
    let Some(name) = token
        .text
        .strip_prefix('@')
        .filter(|n| !n.is_empty() && !token.quoted)
    else {
        out.push(token);
        return Ok(());
    };
    let path = dir.join(name);
    if depth >= MAX_INCLUDE_DEPTH {
        return Err(token_fault(format!(
            "could not open file \"{}\": maximum nesting depth exceeded",
            path.display()
        )));
    }
    let text = std::fs::read(&path).map_err(|e| {
        token_fault(format!(
            "could not open secondary authentication file \"@{name}\" as \"{}\": {}",
            path.display(),
            os_message(&e)
        ))
    })?;
    let dir = path.parent().unwrap_or(dir).to_owned();
    for (_, line) in logical_lines(&as_text(&text)) {
        for field in fields_of(&line, &dir, depth + 1)? {
            out.extend(field);
        }
    }
    Ok(())
}

/// One word up to white space, comma or comment; quotes may stand anywhere in it.
fn token(s: &str) -> Result<(Option<Token>, &str), Fault> {
    let mut text = String::new();
    let mut started_quoted = false;
    let mut in_quote = false;
    let mut any = false;
    for (i, c) in s.char_indices() {
        match c {
            '"' => {
                if !any {
                    started_quoted = true;
                }
                any = true;
                in_quote = !in_quote;
            }
            c if !in_quote && (c.is_ascii_whitespace() || c == ',' || c == '#') => {
                return Ok((
                    any.then_some(Token {
                        text,
                        quoted: started_quoted,
                    }),
                    &s[i..],
                ));
            }
            c => {
                any = true;
                text.push(c);
                if text.len() >= MAX_TOKEN {
                    text.pop();
                    return Err(token_fault(format!(
                        "authentication file token too long, skipping: \"{text}\""
                    )));
                }
            }
        }
    }
    Ok((
        any.then_some(Token {
            text,
            quoted: started_quoted,
        }),
        "",
    ))
}

fn record(fields: &[Field], line: u32, text: &str) -> Result<HbaRecord, Fault> {
    let mut fields = fields.iter();
    let kind = connection_kind(single(
        fields.next(),
        "connection type",
        "before connection type",
    )?)?;
    let databases = fields
        .next()
        .ok_or_else(|| fault("end-of-line before database specification"))?
        .iter()
        .map(database_rule)
        .collect();
    let users = fields
        .next()
        .ok_or_else(|| fault("end-of-line before role specification"))?
        .iter()
        .map(user_rule)
        .collect();
    let address = if kind == ConnectionKind::Local {
        None
    } else {
        Some(address_rule(&mut fields)?)
    };
    let method = single(
        fields.next(),
        "authentication type",
        "before authentication method",
    )?;
    let method = auth_method(method, kind)?;
    let mut options = Options::default();
    for option in fields.flatten() {
        options.take(&option.text, kind, method)?;
    }
    // The method is nothing without the certificate, whose name is then the role's.
    if method == AuthMethod::Cert {
        options.client_cert = ClientCert::VerifyFull;
    }
    Ok(HbaRecord {
        line,
        text: text.into(),
        kind,
        databases,
        users,
        address,
        method,
        map: options.map,
        client_cert: options.client_cert,
        certificate_name: options.certificate_name,
    })
}

fn single<'a>(field: Option<&'a Field>, what: &str, end: &str) -> Result<&'a Token, Fault> {
    let field = field.ok_or_else(|| fault(format!("end-of-line {end}")))?;
    match field.as_slice() {
        [one] => Ok(one),
        _ => Err(Fault {
            hint: Some(format!("Specify exactly one {what} per line.")),
            ..fault(format!("multiple values specified for {what}"))
        }),
    }
}

fn connection_kind(t: &Token) -> Result<ConnectionKind, Fault> {
    Ok(match t.text.as_str() {
        "local" => ConnectionKind::Local,
        "host" => ConnectionKind::Host,
        "hostssl" => ConnectionKind::HostSsl,
        "hostnossl" => ConnectionKind::HostNoSsl,
        "hostgssenc" => ConnectionKind::HostGssEnc,
        "hostnogssenc" => ConnectionKind::HostNoGssEnc,
        other => return Err(fault(format!("invalid connection type \"{other}\""))),
    })
}

fn database_rule(t: &Token) -> DatabaseRule {
    match t.text.as_str() {
        _ if t.quoted => DatabaseRule::Named(t.text.clone()),
        "all" => DatabaseRule::All,
        "sameuser" => DatabaseRule::SameUser,
        "samerole" | "samegroup" => DatabaseRule::SameRole,
        "replication" => DatabaseRule::Replication,
        _ => DatabaseRule::Named(t.text.clone()),
    }
}

fn user_rule(t: &Token) -> UserRule {
    match t.text.strip_prefix('+') {
        _ if t.is("all") => UserRule::All,
        Some(role) if !t.quoted => UserRule::MemberOf(role.to_owned()),
        _ => UserRule::Named(t.text.clone()),
    }
}

fn address_rule<'a>(fields: &mut impl Iterator<Item = &'a Field>) -> Result<AddressRule, Fault> {
    let field = fields
        .next()
        .ok_or_else(|| fault("end-of-line before IP address specification"))?;
    let [t] = field.as_slice() else {
        return Err(Fault {
            hint: Some("Specify one address range per line.".to_owned()),
            ..fault("multiple values specified for host address")
        });
    };
    if t.is("all") {
        return Ok(AddressRule::All);
    }
    if t.is("samehost") {
        return Ok(AddressRule::SameHost);
    }
    if t.is("samenet") {
        return Ok(AddressRule::SameNet);
    }
    let (text, bits) = match t.text.split_once('/') {
        Some((a, b)) => (a, Some(b)),
        None => (t.text.as_str(), None),
    };
    let Some(address) = numeric_address(text) else {
        return Err(not_an_address(&t.text, bits.is_some()));
    };
    if let Some(bits) = bits {
        let mask = mask_of(address, bits)
            .ok_or_else(|| fault(format!("invalid CIDR mask in address \"{}\"", t.text)))?;
        return Ok(AddressRule::Masked { address, mask });
    }
    let field = fields.next().ok_or_else(|| Fault {
        hint: Some(
            "Specify an address range in CIDR notation, or provide a separate netmask.".to_owned(),
        ),
        ..fault("end-of-line before netmask specification")
    })?;
    let [m] = field.as_slice() else {
        return Err(fault("multiple values specified for netmask"));
    };
    let mask = numeric_address(&m.text).ok_or_else(|| {
        fault(format!(
            "invalid IP mask \"{}\": Name or service not known",
            m.text
        ))
    })?;
    if mask.is_ipv4() != address.is_ipv4() {
        return Err(fault("IP address and mask do not match"));
    }
    Ok(AddressRule::Masked { address, mask })
}

/// An address in any form that `inet_aton` takes, too: fewer parts, the last one filling the rest, octal, hexadecimal.
fn numeric_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let parts: Vec<u32> = text
        .split('.')
        .map(|p| match p.strip_prefix("0x").or(p.strip_prefix("0X")) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None if p.len() > 1 && p.starts_with('0') => u32::from_str_radix(p, 8).ok(),
            None if p.starts_with(|c: char| c.is_ascii_digit()) => p.parse().ok(),
            None => None,
        })
        .collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    let open = 4usize.checked_sub(first.len()).filter(|n| *n > 0)? * 8;
    if first.iter().any(|p| *p > 255) || (open < 32 && *last >> open != 0) {
        return None;
    }
    let mut number = *last;
    for (i, part) in first.iter().enumerate() {
        number |= part << (24 - 8 * i);
    }
    Some(IpAddr::V4(number.into()))
}

fn not_an_address(text: &str, with_mask: bool) -> Fault {
    if with_mask {
        return fault(format!(
            "specifying both host name and CIDR mask is invalid: \"{text}\""
        ));
    }
    Fault {
        hint: Some(
            "Use an IP address range in CIDR notation, or samehost, samenet or all.".to_owned(),
        ),
        ..fault(format!(
            "host names in pg_hba.conf are not implemented: \"{text}\""
        ))
    }
}

fn mask_of(address: IpAddr, bits: &str) -> Option<IpAddr> {
    let n: u32 = bits.parse().ok()?;
    match address {
        IpAddr::V4(_) if n <= 32 => Some(IpAddr::V4(Ipv4Addr::from(
            u32::MAX.checked_shl(32 - n).unwrap_or(0),
        ))),
        IpAddr::V6(_) if n <= 128 => Some(IpAddr::V6(Ipv6Addr::from(
            u128::MAX.checked_shl(128 - n).unwrap_or(0),
        ))),
        _ => None,
    }
}

fn auth_method(t: &Token, kind: ConnectionKind) -> Result<AuthMethod, Fault> {
    let not_supported = |hint: &str| Fault {
        hint: Some(hint.to_owned()),
        ..fault(format!(
            "invalid authentication method \"{}\": not supported by this build",
            t.text
        ))
    };
    match t.text.as_str() {
        "trust" => Ok(AuthMethod::Trust),
        "reject" => Ok(AuthMethod::Reject),
        "scram-sha-256" => Ok(AuthMethod::ScramSha256),
        // PostgreSQL too answers "md5" with SCRAM where the password is stored for SCRAM; here all are.
        "md5" => Ok(AuthMethod::Md5),
        "peer" if kind == ConnectionKind::Local => Ok(AuthMethod::Peer),
        "peer" => Err(fault(
            "peer authentication is only supported on local sockets",
        )),
        "gss" if kind == ConnectionKind::Local => Err(fault(
            "gssapi authentication is not supported on local sockets",
        )),
        "cert" if kind != ConnectionKind::HostSsl => Err(fault(
            "cert authentication is only supported on hostssl connections",
        )),
        "cert" => Ok(AuthMethod::Cert),
        "ident" | "password" | "gss" | "sspi" | "pam" | "bsd" | "ldap" | "radius" => Err(
            not_supported("Use scram-sha-256 or cert, or peer on local sockets."),
        ),
        other => Err(fault(format!("invalid authentication method \"{other}\""))),
    }
}

/// What stands behind the method.
#[derive(Default)]
struct Options {
    map: Option<String>,
    client_cert: ClientCert,
    certificate_name: CertificateName,
}

impl Options {
    fn take(&mut self, text: &str, kind: ConnectionKind, method: AuthMethod) -> Result<(), Fault> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(fault(format!(
                "authentication option not in name=value format: {text}"
            )));
        };
        let only_encrypted = || match kind {
            ConnectionKind::HostSsl => Ok(()),
            _ => Err(fault(format!(
                "{name} can only be configured for \"hostssl\" rows"
            ))),
        };
        match (name, value) {
            ("map", _) if matches!(method, AuthMethod::Peer | AuthMethod::Cert) => {
                self.map = Some(value.to_owned());
            }
            ("map", _) => {
                return Err(fault(
                    "authentication option \"map\" is only valid for authentication methods ident, peer, gssapi, sspi, and cert",
                ));
            }
            ("clientcert", _) => {
                only_encrypted()?;
                self.client_cert = client_cert(value, method)?;
            }
            ("clientname", _) => {
                only_encrypted()?;
                self.certificate_name = match value {
                    "CN" => CertificateName::CommonName,
                    "DN" => CertificateName::DistinguishedName,
                    _ => {
                        return Err(fault(format!("invalid value for clientname: \"{value}\"")));
                    }
                };
            }
            _ => {
                return Err(fault(format!(
                    "unrecognized authentication option name: \"{name}\""
                )));
            }
        }
        Ok(())
    }
}

fn client_cert(value: &str, method: AuthMethod) -> Result<ClientCert, Fault> {
    match value {
        "verify-full" => Ok(ClientCert::VerifyFull),
        "verify-ca" if method == AuthMethod::Cert => Err(fault(
            "clientcert only accepts \"verify-full\" when using \"cert\" authentication",
        )),
        "verify-ca" => Ok(ClientCert::VerifyCa),
        _ => Err(fault(format!("invalid value for clientcert: \"{value}\""))),
    }
}
