//! From when until when a certificate is good: the two moments in its DER, found by walking there (RFC 5280, 4.1). In: bytes; out: moments as digits,
//! which compare as text. Knows nothing else of certificates; whoever uses them checks the rest.

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Moments in UTC as `YYYYMMDDHHMMSS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    from: String,
    until: String,
}

impl Validity {
    /// Of the certificate `der`.
    pub fn of(der: &[u8]) -> Option<Validity> {
        let (certificate, _) = take(der, SEQUENCE)?;
        let (mut fields, _) = take(certificate, SEQUENCE)?;
        if let Some((_, rest)) = take(fields, VERSION) {
            fields = rest;
        }
        // Serial number, algorithm, issuer.
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            fields = take(fields, tag)?.1;
        }
        let (validity, _) = take(fields, SEQUENCE)?;
        let (from, rest) = moment(validity)?;
        let (until, _) = moment(rest)?;
        Some(Validity { from, until })
    }

    /// What speaks against using it at `now`.
    pub fn problem(&self, now: &str) -> Option<String> {
        let day = |moment: &str| format!("{}-{}-{}", &moment[..4], &moment[4..6], &moment[6..8]);
        if now < self.from.as_str() {
            Some(format!("is not good before {}", day(&self.from)))
        } else if now > self.until.as_str() {
            Some(format!("has expired on {}", day(&self.until)))
        } else {
            None
        }
    }
}

/// The digits of a moment as RFC 3339 writes it.
pub fn digits(moment: &str) -> String {
    moment.chars().filter(char::is_ascii_digit).collect()
}

/// The content of the element at the front of `der`, if it has `tag`, and what follows it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let mut n = usize::from(first);
    if first & 0x80 != 0 {
        let (length, behind) =
            rest.split_at_checked(usize::from(first & 0x7f)).filter(|(length, _)| length.len() <= 4)?;
        n = length.iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        rest = behind;
    }
    rest.split_at_checked(n)
}

fn moment(der: &[u8]) -> Option<(String, &[u8])> {
    let (text, century, rest) = match take(der, UTC_TIME) {
        // Years from 1950 to 2049.
        Some((text, rest)) => (text, if *text.first()? >= b'5' { "19" } else { "20" }, rest),
        None => {
            let (text, rest) = take(der, GENERALIZED_TIME)?;
            (text, "", rest)
        }
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?.strip_suffix('Z')?);
    (text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some((text, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element of `tag`.
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut der = vec![tag];
        match content.len() {
            n @ ..0x80 => der.push(n as u8),
            n => der.extend([0x82, (n >> 8) as u8, n as u8]),
        }
        [der, content.to_vec()].concat()
    }

    fn certificate(from: (u8, &str), until: (u8, &str), issuer_bytes: usize) -> Vec<u8> {
        let validity = [element(from.0, from.1.as_bytes()), element(until.0, until.1.as_bytes())].concat();
        let fields = [
            element(VERSION, &element(INTEGER, &[2])),
            element(INTEGER, &[7; 20]),
            element(SEQUENCE, &[]),
            element(SEQUENCE, &vec![0; issuer_bytes]),
            element(SEQUENCE, &validity),
        ];
        element(SEQUENCE, &element(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn moments_of_certificates() {
        let utc = (UTC_TIME, "491231235959Z");
        let far = (GENERALIZED_TIME, "21260101000000Z");
        let der = certificate((UTC_TIME, "500101000000Z"), utc, 200);
        let validity = Validity::of(&der).unwrap();
        assert_eq!((validity.from.as_str(), validity.until.as_str()), ("19500101000000", "20491231235959"));
        assert_eq!(Validity::of(&certificate(utc, far, 0)).unwrap().until, "21260101000000");
        let now = |moment: &str| digits(moment);
        assert_eq!(validity.problem(&now("2026-01-01T00:00:00Z")), None);
        assert_eq!(
            validity.problem(&now("2050-01-01T00:00:00Z")).as_deref(),
            Some("has expired on 2049-12-31")
        );
        assert_eq!(
            validity.problem(&now("1949-12-31T23:59:59Z")).as_deref(),
            Some("is not good before 1950-01-01")
        );
        // Cut off anywhere, it is none, and nothing panics.
        let der = certificate(utc, far, 300);
        assert!((0..der.len()).all(|n| Validity::of(&der[..n]).is_none()));
        for (from, until) in [
            ((UTC_TIME, "49123123595Z"), far),
            (utc, (GENERALIZED_TIME, "2126010100000000")),
            (utc, (4, "x")),
        ] {
            assert_eq!(Validity::of(&certificate(from, until, 0)), None);
        }
    }
}
