//! Settings by name, from the file and from process properties, each with the place it comes from.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::numbers::Reading;
use super::properties::Property;
use super::{LoadError, Warning};

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a file.
    Line(String, u32),
    /// A file as a whole.
    File(String),
    /// A `-Dname=value`.
    Property(String),
    /// A word of the command line.
    Argument(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(file, line) => write!(f, "{file} line {line}"),
            Place::File(file) => f.write_str(file),
            Place::Property(name) => write!(f, "-D{name}"),
            Place::Argument(name) => write!(f, "argument {name}"),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) text: String,
    pub(super) place: Place,
}

impl Setting {
    /// An error about this setting.
    pub(super) fn wrong(&self, message: impl Into<String>, hint: impl Into<String>) -> LoadError {
        LoadError::Setting { place: self.place.clone(), message: message.into(), hint: hint.into() }
    }

    pub(super) fn is_true(&self) -> bool {
        self.text.eq_ignore_ascii_case("true")
    }

    fn parsed<T: FromStr>(&self, key: &str) -> Result<T, LoadError> {
        self.text.parse().map_err(|_| {
            let message = format!("{key}: For input string: \"{}\"", self.text);
            self.wrong(message, format!("Write a whole number that fits {key}"))
        })
    }
}

/// All settings of a start.
#[derive(Debug)]
pub(super) struct Settings {
    /// Name of the file, as given.
    pub(super) file: String,
    /// Keys of the file.
    pub(super) entries: BTreeMap<String, Setting>,
    /// Process properties by full name.
    pub(super) properties: BTreeMap<String, Setting>,
    warnings: RefCell<Vec<Warning>>,
}

impl Settings {
    /// Takes the file's entries (the last of a repeated key counts) and the process properties.
    pub(super) fn new(
        file: String,
        entries: Vec<Property>,
        properties: &[(String, String)],
    ) -> Settings {
        let mut settings = Settings {
            file,
            entries: BTreeMap::new(),
            properties: BTreeMap::new(),
            warnings: RefCell::default(),
        };
        for Property { key, value, line } in entries {
            let place = Place::Line(settings.file.clone(), line);
            let new = Setting { text: value, place };
            if let Some(old) = settings.entries.get(&key) {
                let text = format!("{key} was set in {} already; the last one counts", old.place);
                settings.warn(Warning::warn(format!("{}: {text}", new.place)));
            }
            settings.entries.insert(key, new);
        }
        for (name, value) in properties {
            let place = Place::Property(name.clone());
            let setting = Setting { text: value.trim().to_owned(), place };
            settings.properties.insert(name.clone(), setting);
        }
        settings
    }

    pub(super) fn warn(&self, warning: Warning) {
        self.warnings.borrow_mut().push(warning);
    }

    pub(super) fn take_warnings(&self) -> Vec<Warning> {
        self.warnings.take()
    }

    /// An error about a key, at its line if it stands in the file.
    pub(super) fn about(&self, key: &str, message: &str, hint: &str) -> LoadError {
        match self.get(key) {
            Some(setting) => setting.wrong(message, hint),
            None => LoadError::of_file(&self.file, message, hint),
        }
    }

    /// A key of the file; an empty value counts.
    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.entries.get(key)
    }

    /// A key of the file, or the process property `zookeeper.<key>`; the file wins.
    pub(super) fn property(&self, key: &str) -> Option<&Setting> {
        self.get(key).or_else(|| self.properties.get(&format!("zookeeper.{key}")))
    }

    /// A process property without prefix, which the file may hold as well.
    pub(super) fn process(&self, key: &str) -> Option<&Setting> {
        self.get(key).or_else(|| self.properties.get(key))
    }

    // ---- keys that the reference parses itself: a wrong value is fatal

    pub(super) fn number<T: FromStr>(&self, key: &str, default: T) -> Result<T, LoadError> {
        self.get(key).map_or(Ok(default), |setting| setting.parsed(key))
    }

    /// A port; 0 and absence are the same.
    pub(super) fn port(&self, key: &str) -> Result<Option<u16>, LoadError> {
        let Some(setting) = self.get(key) else { return Ok(None) };
        let number: i32 = setting.parsed(key)?;
        match u16::try_from(number) {
            Ok(0) => Ok(None),
            Ok(port) => Ok(Some(port)),
            Err(_) => Err(setting.wrong(
                format!("{key}: port out of range:{number}"),
                "Ports are numbers from 1 to 65535",
            )),
        }
    }

    pub(super) fn boolean(&self, key: &str, default: bool) -> Result<bool, LoadError> {
        let Some(setting) = self.get(key) else { return Ok(default) };
        match &setting.text {
            text if text.eq_ignore_ascii_case("true") => Ok(true),
            text if text.eq_ignore_ascii_case("false") => Ok(false),
            text => Err(setting.wrong(
                format!("Invalid option {text} for {key}. Choose 'true' or 'false.'"),
                format!("Write {key}=true or {key}=false"),
            )),
        }
    }

    // ---- keys that the reference turns into properties: a wrong value is the default

    /// A number among properties that the reference reads with `Integer.getInteger`. One that does not
    /// decode, or has no meaning here, is the default, with a warning.
    pub(super) fn integer<T: TryFrom<i64> + fmt::Display>(&self, key: &str, default: T) -> T {
        self.lenient(self.property(key), key, default, Reading::Integer)
    }

    /// As [`Settings::integer`], with `Long.getLong`.
    pub(super) fn long<T: TryFrom<i64> + fmt::Display>(&self, key: &str, default: T) -> T {
        self.lenient(self.property(key), key, default, Reading::Long)
    }

    /// As [`Settings::integer`], of decimal digits.
    pub(super) fn decimal<T: TryFrom<i64> + fmt::Display>(&self, key: &str, default: T) -> T {
        self.lenient(self.property(key), key, default, Reading::Decimal)
    }

    /// As [`Settings::integer`], of a process property without prefix.
    pub(super) fn process_integer<T: TryFrom<i64> + fmt::Display>(
        &self,
        key: &str,
        default: T,
    ) -> T {
        self.lenient(self.process(key), key, default, Reading::Integer)
    }

    /// As [`Settings::process_integer`], with `Long.getLong`.
    pub(super) fn process_long<T: TryFrom<i64> + fmt::Display>(&self, key: &str, default: T) -> T {
        self.lenient(self.process(key), key, default, Reading::Long)
    }

    /// As [`Settings::integer`], with a fraction.
    pub(super) fn real(&self, key: &str, default: f64) -> f64 {
        let Some(setting) = self.property(key) else { return default };
        setting.text.parse().unwrap_or_else(|_| self.use_default(setting, key, default))
    }

    /// A number where the caller found it; see [`Settings::integer`].
    pub(super) fn lenient<T: TryFrom<i64> + fmt::Display>(
        &self,
        setting: Option<&Setting>,
        key: &str,
        default: T,
        reading: Reading,
    ) -> T {
        let Some(setting) = setting else { return default };
        let number = reading.read(&setting.text).and_then(|number| T::try_from(number).ok());
        number.unwrap_or_else(|| self.use_default(setting, key, default))
    }

    fn use_default<T: fmt::Display>(&self, setting: &Setting, key: &str, default: T) -> T {
        self.warn(Warning::warn(format!(
            "{}: {key} is not a number that fits: \"{}\". Using {default}",
            setting.place, setting.text
        )));
        default
    }

    /// True for the text `true` only; with default true, false for anything else.
    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        self.property(key).map_or(default, |setting| self.is_on(setting, key))
    }

    /// Of our own: something that must not stay on. In the file or a process property; off unless
    /// `true`, and loud if it is.
    pub(super) fn rescue(&self, key: &str, consequence: &str) -> bool {
        let on = self.process(key).filter(|setting| self.is_on(setting, key));
        if let Some(Setting { place, .. }) = on {
            self.warn(Warning::error(format!(
                "{place}: the rescue setting {key} is on: {consequence}. Remove it after this start"
            )));
        }
        on.is_some()
    }

    fn is_on(&self, setting: &Setting, key: &str) -> bool {
        if !setting.is_true() && !setting.text.eq_ignore_ascii_case("false") {
            let place = &setting.place;
            self.warn(Warning::warn(format!(
                "{place}: {key} is neither true nor false: \"{}\" counts as false",
                setting.text
            )));
        }
        setting.is_true()
    }

    /// Off only for `no`.
    pub(super) fn unless_no(&self, key: &str) -> bool {
        self.property(key).is_none_or(|setting| setting.text != "no")
    }
}
