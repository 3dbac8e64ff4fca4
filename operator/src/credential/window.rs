//! The recurring span of time in which credentials that reached their age are replaced.

use std::{str::FromStr as _, time::Duration};

use croner::Cron;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use mcp_auth_crds::v1alpha1::RotationWindow;

/// A window, parsed.
#[derive(Clone, Debug)]
pub struct Window {
    begins: Cron,
    zone: TimeZone,
    lasts: SignedDuration,
}

impl Window {
    /// Parses a window.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn new(spec: &RotationWindow) -> Result<Self, String> {
        let schedule = &spec.schedule;
        let begins = Cron::from_str(schedule).map_err(|_| {
            format!("{schedule:?} is no schedule: write minute, hour, day of month, month and day of week, such as \"0 2 * * 6\"")
        })?;
        let name = spec.time_zone.as_deref().unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| {
            format!("{name:?} is no time zone: write a name such as Europe/Berlin, or leave it out for UTC")
        })?;
        let window = Self {
            begins,
            zone,
            lasts: SignedDuration::try_from(spec.duration.duration().unwrap_or(Duration::ZERO))
                .unwrap_or(SignedDuration::ZERO),
        };
        // Days that no month has are a schedule all the same.
        if window.opening(Timestamp::UNIX_EPOCH).is_none() {
            return Err(format!(
                "the schedule {schedule:?} never comes: write one that does"
            ));
        }
        Ok(window)
    }

    /// `at` if the window is open then, else when it opens next. `None`: it never does.
    pub fn opening(&self, at: Timestamp) -> Option<Timestamp> {
        // The first beginning of which the window lasts beyond `at`.
        let from = at.checked_sub(self.lasts).ok()?.to_zoned(self.zone.clone());
        let begins = self.begins.find_next_occurrence(&from, false).ok()?.timestamp();
        Some(begins.max(at))
    }
}

#[cfg(test)]
mod tests {
    use mcp_auth_crds::v1alpha1::DurationText;
    use proptest::prelude::*;

    use super::*;

    fn window(schedule: &str, zone: Option<&str>, duration: &str) -> Result<Window, String> {
        Window::new(&RotationWindow {
            schedule: schedule.into(),
            time_zone: zone.map(str::to_owned),
            duration: DurationText(duration.into()),
        })
    }

    #[test]
    fn it_is_open_from_its_beginning_until_its_end() {
        for (schedule, zone, duration, at, opens) in [
            // 2026-11-28 is a Saturday.
            (
                "0 2 * * 6",
                None,
                "4h",
                "2026-11-26T12:00:00Z",
                "2026-11-28T02:00:00Z",
            ),
            (
                "0 2 * * 6",
                None,
                "4h",
                "2026-11-28T01:59:59Z",
                "2026-11-28T02:00:00Z",
            ),
            (
                "0 2 * * 6",
                None,
                "4h",
                "2026-11-28T02:00:00Z",
                "2026-11-28T02:00:00Z",
            ),
            (
                "0 2 * * 6",
                None,
                "4h",
                "2026-11-28T05:59:59Z",
                "2026-11-28T05:59:59Z",
            ),
            (
                "0 2 * * 6",
                None,
                "4h",
                "2026-11-28T06:00:00Z",
                "2026-12-05T02:00:00Z",
            ),
            // One hour before UTC's in winter, two in summer.
            (
                "0 2 * * *",
                Some("Europe/Berlin"),
                "1h",
                "2026-11-26T00:30:00Z",
                "2026-11-26T01:00:00Z",
            ),
            (
                "0 2 * * *",
                Some("Europe/Berlin"),
                "1h",
                "2026-07-01T00:30:00Z",
                "2026-07-01T00:30:00Z",
            ),
            // Always.
            (
                "* * * * *",
                None,
                "10m",
                "2026-07-01T00:30:30Z",
                "2026-07-01T00:30:30Z",
            ),
        ] {
            let window = window(schedule, zone, duration).unwrap();
            let opening = window.opening(at.parse().unwrap()).unwrap();
            assert_eq!(opening.to_string(), opens, "{schedule} {zone:?} {at}");
        }
    }

    #[test]
    fn an_hour_that_daylight_saving_leaves_out_is_made_up_for() {
        // In Berlin there is no 02:30 on 2027-03-28.
        let window = window("30 2 * * *", Some("Europe/Berlin"), "1h").unwrap();
        let opening = window.opening("2027-03-28T00:00:00Z".parse().unwrap()).unwrap();
        assert!(opening < "2027-03-28T02:00:00Z".parse().unwrap(), "{opening}");
    }

    #[test]
    fn what_is_no_window_is_told() {
        for (schedule, zone, part) in [
            ("0 2 * *", None, "no schedule"),
            ("61 2 * * *", None, "no schedule"),
            ("0 2 30 2 *", None, "never comes"),
            ("0 2 * * *", Some("Europe/Atlantis"), "no time zone"),
        ] {
            let problem = window(schedule, zone, "1h").unwrap_err();
            assert!(problem.contains(part), "{schedule}: {problem}");
        }
    }

    proptest! {
        /// It never opens in the past, and is open when it opens.
        #[test]
        fn an_opening_is_one(second in 0_i64..4_000_000_000, minute in 0_u8..60, hour in 0_u8..24, lasts in 10_u32..600) {
            let window = window(&format!("{minute} {hour} * * *"), Some("America/New_York"), &format!("{lasts}m")).unwrap();
            let at = Timestamp::from_second(second).unwrap();
            let opening = window.opening(at).unwrap();
            prop_assert!(opening >= at);
            prop_assert_eq!(window.opening(opening), Some(opening));
        }
    }
}
