//! Identities of a connection, and the schemes that grant them.
//!
//! A connection starts with its `ip` identity and gains others by auth packets; it never loses one.
//! Source: `docs/spec/client-protocol.md` 11.4 to 11.6.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oxkeeper_proto::client::Id;
use oxkeeper_proto::jute::decode_utf8;
use sha1::{Digest, Sha1};

/// Which schemes exist and who is above all ACLs. The same on every server of an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// `skipACL=yes`: no permission is ever checked.
    pub skip_acl: bool,
    /// Is the `digest` scheme there? (`DigestAuthenticationProvider.enabled`)
    pub digest_enabled: bool,
    /// `DigestAuthenticationProvider.superDigest`: the digest identity (`user:hash`) that is also super.
    pub super_digest: Option<String>,
    /// Is the `sasl` scheme there?
    pub sasl_enabled: bool,
    /// `letAnySaslUserDoX`: an ACL id of scheme `sasl` that matches every SASL user.
    pub any_sasl_user: Option<String>,
    /// Is the `x509` scheme there?
    pub x509_enabled: bool,
    /// `X509AuthenticationProvider.superUser`: a subject name that matches every `x509` entry.
    pub x509_super: Option<String>,
    /// The `ensemble` scheme, if configured: names it accepts (`ensembleAuthName`), none = all.
    pub ensemble_names: Option<Vec<String>>,
    /// `enforce.auth.schemes`: without an identity of one of these, requests are refused. Empty = off.
    pub enforced_schemes: Vec<String>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        AuthSettings {
            skip_acl: false,
            digest_enabled: true,
            super_digest: None,
            sasl_enabled: false,
            any_sasl_user: None,
            x509_enabled: false,
            x509_super: None,
            ensemble_names: None,
            enforced_schemes: Vec::new(),
        }
    }
}

/// A scheme that can grant something in an ACL. `world`, `auth` and `super` have no provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    Ip,
    Digest,
    Sasl,
    X509,
    Ensemble,
}

impl Provider {
    /// May the `auth` scheme expand to identities of this provider?
    pub(crate) fn is_authenticating(self) -> bool {
        matches!(self, Provider::Digest | Provider::Sasl | Provider::X509)
    }
}

impl AuthSettings {
    pub(crate) fn provider(&self, scheme: &str) -> Option<Provider> {
        match scheme {
            "ip" => Some(Provider::Ip),
            "digest" if self.digest_enabled => Some(Provider::Digest),
            "sasl" if self.sasl_enabled => Some(Provider::Sasl),
            "x509" if self.x509_enabled => Some(Provider::X509),
            "ensemble" if self.ensemble_names.is_some() => Some(Provider::Ensemble),
            _ => None,
        }
    }

    /// May a connection with these identities make requests (11.6)?
    pub fn enforcement_met(&self, ids: &[Id]) -> bool {
        self.enforced_schemes.is_empty()
            || ids.iter().any(|id| self.enforced_schemes.contains(&id.scheme))
    }
}

/// Why an auth packet was refused. The connection is closed after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthFailed {
    /// Answered with AUTHFAILED (-115).
    #[error("authentication failed")]
    Refused,
    /// Not answered at all: the client is meant for another ensemble and should try another server.
    #[error("the client is meant for another ensemble")]
    OtherEnsemble,
}

/// The `ip` identity of a peer. IPv6 is written as eight groups without compression, an IPv4-mapped
/// address as IPv4.
pub fn ip_identity(peer: IpAddr) -> Id {
    match peer.to_canonical() {
        IpAddr::V4(v4) => Id::new("ip", v4.to_string()),
        IpAddr::V6(v6) => {
            let groups: Vec<String> = v6.segments().iter().map(|g| format!("{g:x}")).collect();
            Id::new("ip", groups.join(":"))
        }
    }
}

/// The `digest` identity that `user:password` stands for: `user:base64(SHA1(user:password))`.
///
/// Nothing is checked, so nothing can fail: the password only selects who one is.
pub fn digest_identity(auth: &[u8]) -> Id {
    let text = decode_utf8(auth);
    let user = text.split(':').next().unwrap_or_default();
    let hash = STANDARD.encode(Sha1::digest(text.as_bytes()));
    Id::new("digest", format!("{user}:{hash}"))
}

/// Identities that an auth packet grants. `ip` is the connection's own `ip` identity.
pub fn authenticate(
    settings: &AuthSettings,
    scheme: Option<&str>,
    auth: Option<&[u8]>,
    ip: &Id,
) -> Result<Vec<Id>, AuthFailed> {
    match scheme.and_then(|scheme| settings.provider(scheme)) {
        Some(Provider::Ip) => Ok(vec![ip.clone()]),
        Some(Provider::Digest) => {
            let id = digest_identity(auth.ok_or(AuthFailed::Refused)?);
            let is_super = settings.super_digest.as_deref() == Some(&id.id);
            let mut granted = vec![id];
            if is_super {
                granted.push(Id::new("super", ""));
            }
            Ok(granted)
        }
        Some(Provider::Ensemble) => {
            let names = settings.ensemble_names.as_deref().unwrap_or_default();
            let name = decode_utf8(auth.ok_or(AuthFailed::Refused)?);
            if name.is_empty() || names.is_empty() || names.iter().any(|known| *known == name) {
                Ok(Vec::new())
            } else {
                Err(AuthFailed::OtherEnsemble)
            }
        }
        // SASL has its own exchange, certificates come with the TLS handshake.
        Some(Provider::Sasl | Provider::X509) | None => Err(AuthFailed::Refused),
    }
}

/// What whoAmI calls the user of an identity: the id, without the hash of a digest; nothing for a
/// scheme without provider.
pub fn user_name<'a>(settings: &AuthSettings, id: &'a Id) -> Cow<'a, str> {
    match settings.provider(&id.scheme) {
        None => "".into(),
        Some(Provider::Digest) => id.id.split(':').next().unwrap_or_default().into(),
        Some(_) => (&*id.id).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(settings: &AuthSettings, scheme: &str, data: &[u8]) -> Result<Vec<Id>, AuthFailed> {
        authenticate(settings, Some(scheme), Some(data), &Id::new("ip", "127.0.0.1"))
    }

    #[test]
    fn digests_match_the_reference() {
        assert_eq!(digest_identity(b"super:test").id, "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert_eq!(digest_identity(b"ben:passwd").id, "ben:GnIFqmuceuc/72KWrVhTHjDv9u4=");
    }

    #[test]
    fn the_super_digest_grants_super_besides_the_identity() {
        let super_digest = Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".to_owned());
        let settings = AuthSettings { super_digest, ..Default::default() };
        let granted = auth(&settings, "digest", b"super:test").unwrap();
        assert_eq!(granted.len(), 2);
        assert!(granted.contains(&Id::new("super", "")));
        assert_eq!(auth(&settings, "digest", b"super:other").unwrap().len(), 1);
    }

    #[test]
    fn trap_25_digest_auth_never_fails_unknown_schemes_do() {
        let settings = AuthSettings::default();
        assert!(auth(&settings, "digest", b"").is_ok());
        assert!(auth(&settings, "digest", b"no colon").is_ok());
        assert!(auth(&settings, "digest", b"\xff:\xff").is_ok());
        assert!(auth(&settings, "ip", b"").is_ok());
        for scheme in ["world", "auth", "super", "sasl", "x509", "ensemble", "nonsense"] {
            assert_eq!(auth(&settings, scheme, b"a:b"), Err(AuthFailed::Refused), "{scheme}");
        }
        let ip = Id::new("ip", "127.0.0.1");
        assert!(authenticate(&settings, Some("digest"), None, &ip).is_err());
        assert!(authenticate(&settings, None, None, &ip).is_err());
    }

    #[test]
    fn a_client_of_another_ensemble_is_turned_away_silently() {
        let names = Some(vec!["blue".to_owned()]);
        let settings = AuthSettings { ensemble_names: names, ..Default::default() };
        assert_eq!(auth(&settings, "ensemble", b"blue"), Ok(vec![]));
        assert_eq!(auth(&settings, "ensemble", b""), Ok(vec![]));
        assert_eq!(auth(&settings, "ensemble", b"red"), Err(AuthFailed::OtherEnsemble));
    }

    #[test]
    fn trap_28_ip_identities_are_full_form_and_mapped_peers_are_ipv4() {
        let ip = |text: &str| ip_identity(text.parse().unwrap()).id;
        assert_eq!(ip("::1"), "0:0:0:0:0:0:0:1");
        assert_eq!(ip("2001:db8::ab"), "2001:db8:0:0:0:0:0:ab");
        assert_eq!(ip("::ffff:10.1.2.3"), "10.1.2.3");
        assert_eq!(ip("10.1.2.3"), "10.1.2.3");
    }

    #[test]
    fn who_am_i_hides_hashes_and_super() {
        let settings = AuthSettings::default();
        assert_eq!(user_name(&settings, &digest_identity(b"ben:passwd")), "ben");
        assert_eq!(user_name(&settings, &Id::new("super", "")), "");
        assert_eq!(user_name(&settings, &Id::new("ip", "10.0.0.1")), "10.0.0.1");
    }

    #[test]
    fn enforcement_asks_for_one_identity_of_a_scheme() {
        let schemes = vec!["digest".to_owned(), "sasl".to_owned()];
        let settings = AuthSettings { enforced_schemes: schemes, ..Default::default() };
        let ip = Id::new("ip", "10.0.0.1");
        assert!(!settings.enforcement_met(std::slice::from_ref(&ip)));
        assert!(settings.enforcement_met(&[ip.clone(), digest_identity(b"a:b")]));
        assert!(AuthSettings::default().enforcement_met(&[ip]));
    }
}
