//! Access control: who may do what, which lists are valid, what a reader of a list may see.
//!
//! Source: `docs/spec/client-protocol.md` 11.1 to 11.4 and 8 (getACL).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use oxkeeper_proto::client::{Acl, AclEntry, Id, perms};
use oxkeeper_proto::jute::{put_int, put_string};
use oxkeeper_proto::{Encode, ErrorCode};

use crate::auth::{AuthSettings, Provider};

/// Longest encoded list that is accepted after expansion, in bytes. Requests are no longer than this by
/// default; `auth` entries of a connection with many identities could grow without it.
pub const MAX_ACL_BYTES: usize = oxkeeper_proto::jute::DEFAULT_MAX_BUFFER;

/// Does `acl` grant at least one of `wanted` (bits of [`perms`]) to someone with these identities?
/// An empty list grants everything.
pub fn permits(settings: &AuthSettings, acl: &[Acl], wanted: i32, ids: &[Id]) -> bool {
    if settings.skip_acl || acl.is_empty() {
        return true;
    }
    let mut entries = acl.iter().filter(|entry| entry.perms & wanted != 0);
    entries.clone().any(|entry| entry.id.scheme == "world" && entry.id.id == "anyone")
        || ids.iter().any(|id| id.scheme == "super")
        || entries.any(|entry| {
            settings.provider(&entry.id.scheme).is_some_and(|provider| {
                ids.iter()
                    .filter(|id| id.scheme == entry.id.scheme)
                    .any(|id| matches(settings, provider, &id.id, &entry.id.id))
            })
        })
}

/// As [`permits`], for the list of a stored node. `None` is a list that the ACL table lacks (a fuzzy
/// snapshot before its replay): closed to all but the super user.
pub fn permits_node(settings: &AuthSettings, acl: Option<&[Acl]>, wanted: i32, ids: &[Id]) -> bool {
    match acl {
        Some(acl) => permits(settings, acl, wanted, ids),
        None => settings.skip_acl || ids.iter().any(|id| id.scheme == "super"),
    }
}

/// Is `held`, an id of the connection, meant by `granted`, an id of the ACL, both of one scheme?
fn matches(settings: &AuthSettings, provider: Provider, held: &str, granted: &str) -> bool {
    match provider {
        Provider::Ip => match (parse_ip(held), IpRange::parse(granted)) {
            (Some(ip), Some(range)) => range.contains(ip),
            _ => false,
        },
        Provider::Digest => held == granted,
        Provider::Sasl => {
            held == "super" || held == granted || settings.any_sasl_user.as_deref() == Some(granted)
        }
        Provider::X509 => held == granted || settings.x509_super.as_deref() == Some(held),
        Provider::Ensemble => false,
    }
}

/// `address` or `address/bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IpRange {
    base: IpAddr,
    bits: u32,
}

impl IpRange {
    fn parse(text: &str) -> Option<IpRange> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let base = parse_ip(address)?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(IpRange { base, bits })
    }

    /// Equal family, and equal after masking.
    fn contains(self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                // A shift by the whole width is a mask of zero bits.
                let differing = base.to_bits() ^ ip.to_bits();
                differing.checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let differing = base.to_bits() ^ ip.to_bits();
                differing.checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        // Groups only: the reference knows no dotted quad at the end.
        if text.contains('.') {
            return None;
        }
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    // Unlike the standard parser, the reference accepts leading zeros (decimal).
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = parts.next()?.parse::<u8>().ok()?;
    }
    parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(octets)))
}

/// Checks the list of a create or setACL and expands it to what is stored.
///
/// Exact duplicates go, `auth` becomes one entry per authenticating identity of the requester.
/// Errors: `InvalidAcl`, also beyond [`MAX_ACL_BYTES`]; `MarshallingError` for a null id where the
/// scheme needs one.
pub fn expand(
    settings: &AuthSettings,
    entries: Option<&[AclEntry<'_>]>,
    ids: &[Id],
) -> Result<Vec<Acl>, ErrorCode> {
    let entries = entries.unwrap_or_default();
    if entries.is_empty() {
        return Err(ErrorCode::InvalidAcl);
    }
    let mut expanded = Vec::with_capacity(entries.len());
    // Long lists are sorted out by a set; a quadratic scan would let one request stall the server.
    let mut seen = (entries.len() > 16).then(|| hashbrown::HashSet::with_hasher(hasher()));
    let mut len = 0;
    for (at, entry) in entries.iter().enumerate() {
        let fresh = match &mut seen {
            Some(seen) => seen.insert((entry.perms, &entry.scheme, &entry.id)),
            None => !entries[..at].contains(entry),
        };
        if fresh {
            let before = expanded.len();
            expand_entry(settings, entry, ids, &mut expanded)?;
            len += encoded_len(&expanded[before..]);
            if len > MAX_ACL_BYTES {
                return Err(ErrorCode::InvalidAcl);
            }
        }
    }
    Ok(expanded)
}

/// Bytes of the entries of a list.
pub(crate) fn encoded_len(acl: &[Acl]) -> usize {
    acl.iter().map(|entry| 12 + entry.id.scheme.len() + entry.id.id.len()).sum()
}

fn hasher() -> foldhash::fast::FixedState {
    foldhash::fast::FixedState::default()
}

fn expand_entry(
    settings: &AuthSettings,
    entry: &AclEntry<'_>,
    ids: &[Id],
    expanded: &mut Vec<Acl>,
) -> Result<(), ErrorCode> {
    let scheme = entry.scheme.as_deref().ok_or(ErrorCode::InvalidAcl)?;
    if scheme == "auth" {
        let authenticating =
            |id: &&Id| settings.provider(&id.scheme).is_some_and(Provider::is_authenticating);
        let before = expanded.len();
        let granted = ids.iter().filter(authenticating);
        expanded.extend(granted.map(|id| Acl { perms: entry.perms, id: id.clone() }));
        return if expanded.len() > before { Ok(()) } else { Err(ErrorCode::InvalidAcl) };
    }
    let provider = settings.provider(scheme);
    if provider.is_none() && scheme != "world" {
        return Err(ErrorCode::InvalidAcl);
    }
    let id = entry.id.as_deref().ok_or(ErrorCode::MarshallingError)?;
    let valid = match provider {
        None => id == "anyone",
        Some(Provider::Ip) => IpRange::parse(id).is_some(),
        Some(Provider::Digest) => is_valid_digest_id(id),
        Some(Provider::Sasl) => is_valid_sasl_id(id),
        Some(Provider::X509) => id.split(',').all(|part| part.contains('=')),
        Some(Provider::Ensemble) => false,
    };
    if !valid {
        return Err(ErrorCode::InvalidAcl);
    }
    expanded.push(Acl::new(entry.perms, scheme, id));
    Ok(())
}

/// Two parts around a colon, the second not empty. The reference splits and then ignores empty parts
/// at the end, so colons may trail.
fn is_valid_digest_id(id: &str) -> bool {
    match id.trim_end_matches(':').split_once(':') {
        Some((_, hash)) => !hash.contains(':'),
        None => false,
    }
}

/// A short name, or `service[/host]@realm`.
fn is_valid_sasl_id(id: &str) -> bool {
    match id.split_once('@') {
        None => true,
        Some((name, realm)) => !realm.contains(['/', '@']) && name.matches('/').count() <= 1,
    }
}

/// An ACL as a caller without ADMIN permission sees it: hashes of digest ids become `x`.
pub fn redacted(acl: &[Acl]) -> impl Iterator<Item = (i32, &str, Cow<'_, str>)> {
    acl.iter().map(|entry| (entry.perms, &*entry.id.scheme, redacted_id(&entry.id)))
}

fn redacted_id(id: &Id) -> Cow<'_, str> {
    match id.id.split_once(':') {
        Some((user, _)) if id.scheme == "digest" => format!("{user}:x").into(),
        _ => (&*id.id).into(),
    }
}

/// Appends the list that a getACL answers with: in full only to callers with ADMIN permission.
pub fn put_acl(out: &mut Vec<u8>, settings: &AuthSettings, acl: &[Acl], ids: &[Id]) {
    put_int(out, acl.len() as i32);
    if permits(settings, acl, perms::ADMIN, ids) {
        acl.iter().for_each(|entry| entry.encode(out));
        return;
    }
    for (bits, scheme, id) in redacted(acl) {
        put_int(out, bits);
        put_string(out, scheme);
        put_string(out, &id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::digest_identity;

    fn ip(text: &str) -> Id {
        Id::new("ip", text)
    }

    fn entry(perms: i32, scheme: &'static str, id: Option<&'static str>) -> AclEntry<'static> {
        AclEntry { perms, scheme: Some(scheme.into()), id: id.map(Into::into) }
    }

    fn expand_one(scheme: &'static str, id: Option<&'static str>) -> Result<Vec<Acl>, ErrorCode> {
        expand(&AuthSettings::default(), Some(&[entry(31, scheme, id)]), &[])
    }

    #[test]
    fn an_entry_grants_if_any_wanted_bit_is_set() {
        let settings = AuthSettings::default();
        let acl = [Acl::new(perms::READ, "world", "anyone")];
        assert!(permits(&settings, &acl, perms::READ | perms::ADMIN, &[]));
        assert!(!permits(&settings, &acl, perms::WRITE, &[]));
        assert!(permits(&settings, &[], perms::WRITE, &[]), "an empty list grants everything");
        assert!(permits(&settings, &acl, perms::WRITE, &[Id::new("super", "")]));
        let skip = AuthSettings { skip_acl: true, ..Default::default() };
        assert!(permits(&skip, &acl, perms::WRITE, &[]));
    }

    #[test]
    fn ip_entries_match_by_prefix_within_their_family() {
        let check = |granted: &str, held: &str| {
            let acl = [Acl::new(perms::READ, "ip", granted)];
            permits(&AuthSettings::default(), &acl, perms::READ, &[ip(held)])
        };
        assert!(check("10.1.2.3", "10.1.2.3"));
        assert!(!check("10.1.2.3", "10.1.2.4"));
        assert!(check("10.1.0.0/16", "10.1.255.4"));
        assert!(!check("10.1.0.0/16", "10.2.0.1"));
        assert!(check("0.0.0.0/0", "10.2.0.1"));
        assert!(check("10.1.2.3/32", "10.1.2.3"));
        assert!(check("2001:db8::/32", "2001:db8:0:0:0:0:0:7"));
        assert!(!check("2001:db8::/32", "2001:db9:0:0:0:0:0:7"));
        assert!(check("::/0", "0:0:0:0:0:0:0:1"));
        assert!(check("::1", "0:0:0:0:0:0:0:1"));
        assert!(!check("::/0", "10.1.2.3") && !check("0.0.0.0/0", "0:0:0:0:0:0:0:1"));
    }

    #[test]
    fn a_digest_entry_matches_only_its_identity_and_only_if_the_scheme_is_on() {
        let ben = digest_identity(b"ben:passwd");
        let acl = [Acl { perms: perms::READ, id: ben.clone() }];
        let on = AuthSettings::default();
        let off = AuthSettings { digest_enabled: false, ..Default::default() };
        assert!(permits(&on, &acl, perms::READ, std::slice::from_ref(&ben)));
        assert!(!permits(&on, &acl, perms::READ, &[digest_identity(b"ben:other")]));
        assert!(!permits(&off, &acl, perms::READ, &[ben]));
    }

    #[test]
    fn a_sasl_entry_matches_equal_ids_super_and_the_wildcard_user() {
        let settings = AuthSettings {
            sasl_enabled: true,
            any_sasl_user: Some("anybody".to_owned()),
            ..Default::default()
        };
        let check = |granted: &str, held: &str| {
            let acl = [Acl::new(perms::READ, "sasl", granted)];
            permits(&settings, &acl, perms::READ, &[Id::new("sasl", held)])
        };
        assert!(check("a", "a") && check("a", "super") && check("anybody", "b"));
        assert!(!check("a", "b"));
    }

    #[test]
    fn invalid_lists_are_refused() {
        let settings = AuthSettings::default();
        assert_eq!(expand(&settings, None, &[]), Err(ErrorCode::InvalidAcl));
        assert_eq!(expand(&settings, Some(&[]), &[]), Err(ErrorCode::InvalidAcl));
        let null_scheme = AclEntry { perms: 31, scheme: None, id: Some("x".into()) };
        assert_eq!(expand(&settings, Some(&[null_scheme]), &[]), Err(ErrorCode::InvalidAcl));
        for (scheme, id) in [
            ("world", "someone"),
            ("digest", "a:"),
            ("digest", "a:b:c"),
            ("digest", "a"),
            ("digest", ""),
            ("ip", "10.0.0"),
            ("ip", "10.0.0.256"),
            ("ip", "10.0.0.1/33"),
            ("ip", "::1/129"),
            ("ip", "::ffff:10.0.0.1"),
            ("ip", "fe80::1%eth0"),
            ("digest", "::b"),
            ("ip", "10.0.0.1/"),
            ("sasl", "a"),
            ("super", ""),
            ("foo", "a"),
        ] {
            assert_eq!(expand_one(scheme, Some(id)), Err(ErrorCode::InvalidAcl), "{scheme}:{id}");
        }
        assert_eq!(expand_one("digest", None), Err(ErrorCode::MarshallingError));
        assert_eq!(expand_one("ip", None), Err(ErrorCode::MarshallingError));
    }

    #[test]
    fn valid_lists_are_stored_as_given() {
        for (scheme, id) in [
            ("world", "anyone"),
            ("digest", "a:b"),
            ("digest", ":b"),
            ("digest", "a:b:"),
            ("ip", "10.0.0.01"),
            ("ip", "10.0.0.1"),
            ("ip", "10.0.0.0/8"),
            ("ip", "fe80::/10"),
        ] {
            assert_eq!(expand_one(scheme, Some(id)), Ok(vec![Acl::new(31, scheme, id)]));
        }
    }

    #[test]
    fn trap_26_auth_expands_to_authenticating_identities_and_ip_does_not_count() {
        let settings = AuthSettings::default();
        let list = [entry(perms::READ, "auth", None), entry(31, "world", Some("anyone"))];
        let (ben, eve) = (digest_identity(b"ben:1"), digest_identity(b"eve:2"));
        let ids = [ip("10.0.0.1"), ben.clone(), Id::new("super", ""), eve.clone()];
        let expected = vec![
            Acl { perms: perms::READ, id: ben },
            Acl { perms: perms::READ, id: eve },
            Acl::new(31, "world", "anyone"),
        ];
        assert_eq!(expand(&settings, Some(&list), &ids), Ok(expected));
        assert_eq!(expand(&settings, Some(&list), &[ip("10.0.0.1")]), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn trap_27_duplicates_go_and_digest_hashes_are_hidden_without_admin() {
        let settings = AuthSettings::default();
        let world = || entry(1, "world", Some("anyone"));
        let digest = || entry(31, "digest", Some("u:hash"));
        let list = [world(), digest(), world(), digest()];
        let acl = expand(&settings, Some(&list), &[]).unwrap();
        assert_eq!(acl, [Acl::new(1, "world", "anyone"), Acl::new(31, "digest", "u:hash")]);

        let mut long: Vec<_> = (0..40).map(|bits| entry(bits, "world", Some("anyone"))).collect();
        long.extend(long.clone());
        assert_eq!(expand(&settings, Some(&long), &[]).unwrap().len(), 40);

        let list_for = |ids: &[Id]| {
            let mut out = Vec::new();
            put_acl(&mut out, &settings, &acl, ids);
            <Vec<Acl> as oxkeeper_proto::Decode>::from_bytes(&out).unwrap()
        };
        assert_eq!(list_for(&[])[1], Acl::new(31, "digest", "u:x"));
        assert_eq!(list_for(&[Id::new("digest", "u:hash")]), acl);
        assert_eq!(list_for(&[Id::new("super", "")]), acl);
    }

    #[test]
    fn many_auth_entries_of_many_identities_do_not_grow_without_bound() {
        let ids: Vec<Id> = (0..1000).map(|n| Id::new("digest", format!("u{n}:hash"))).collect();
        let list: Vec<_> = (0..1000).map(|bits| entry(bits, "auth", None)).collect();
        let settings = AuthSettings::default();
        assert_eq!(expand(&settings, Some(&list), &ids), Err(ErrorCode::InvalidAcl));
        assert_eq!(expand(&settings, Some(&list[..10]), &ids).unwrap().len(), 10_000);
    }
}
