"""Estimate the noise floor of the S&P 500: the daily move that says nothing yet.

One file on purpose: the record pins the digest of a script, and a module shared with the other
functions could change without the record showing it. The functions that the three scripts have in
common are the same text, and a test compares them. No row after `as_of` is looked at.
"""

# ruff: noqa: PTH100, PTH105, PTH108, PTH118, PTH119, PTH120, PTH123
# pathlib takes five of the thirty milliseconds that a run takes.
from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import sys
from datetime import date

FUNCTION = "vision_noise_floor_estimator"
AGENT = "STIG"
#: The default window: 40 days hold at least 25 rows of daily data, whatever the holidays.
WINDOW_HOURS = 960
#: A century; more than any series here.
WINDOW_HOURS_MAX = 876_000
MIN_ROWS = 20
#: Two returns are the fewest that have a standard deviation.
MIN_ROWS_MIN = 3
#: Below this a standard deviation of daily returns is rounding, not movement.
FLAT = 1e-12
#: Trading days in a year, by which daily variance is annualised.
TRADING_DAYS = 252
#: 1 / (the 75 % quantile of the standard normal distribution).
MAD_TO_STDEV = 1.482602218505602
#: A return further than this many noise floors from the median is an outlier.
OUTLIER_BEYOND = 3.0


def main() -> int:
    """Compute, publish and summarise; 0 with a result, 1 and 2 as `Refusal` says."""
    try:
        noise = Noise(read_settings())
        keep("vision_core.noise_profile", noise.row())
        publish(noise.result())
    except Refusal as refusal:
        print(f"{FUNCTION}: {refusal}", file=sys.stderr)
        return refusal.status
    print(noise.summary())
    return 0


class Noise:
    """The noise of the window, by what happened (S&P 500) and by what was expected (VIX)."""

    def __init__(self, settings: Settings) -> None:
        """Compute every figure from the rows of the window alone."""
        self.prices = Series(os.path.join(settings.data_dir, "sp500.csv"))
        self.implied = Series(os.path.join(settings.data_dir, "vix.csv"))
        self.settings = settings
        self.as_of = settings.as_of or max(self.prices.days[-1], self.implied.days[-1])
        window = self.prices.window(settings, self.as_of)
        implied_window = self.implied.window(settings, self.as_of)
        self.days = self.prices.days[window]
        vix = self.implied.columns["close"][implied_window]
        settings.require_rows(len(self.days), self.as_of, self.prices.name)
        settings.require_rows(len(vix), self.as_of, self.implied.name)
        returns = log_returns(self.prices.columns["close"][window])
        highs, lows = (self.prices.columns[name][window] for name in ("high", "low"))
        self.profile = {**noise_of(returns), **volatility_of(returns, highs, lows, vix)}
        self.profile["vix_noise_floor"] = rounded(robust_deviation(log_returns(vix)), 8)
        self.rows = {"rows": len(self.days), "vix_rows": len(vix)}

    @property
    def state(self) -> str:
        """Whether the move of the window stands out of its noise."""
        return "SIGNAL" if self.profile["signal_to_noise"] >= 1 else "NOISE"

    def result(self) -> dict[str, object]:
        """Return what is published."""
        return {
            "function": FUNCTION,
            "agent_id": AGENT,
            "as_of": self.as_of.isoformat(),
            "window_hours": self.settings.hours,
            "first_day": self.days[0].isoformat(),
            "last_day": self.days[-1].isoformat(),
            **self.rows,
            "inputs": {series.name: series.digest for series in (self.prices, self.implied)},
            "noise_profile": self.profile,
            "noise_state": self.state,
            "metrics": {**self.profile, **self.rows},
        }

    def row(self) -> dict[str, object]:
        """Return what stands in its table."""
        names = ("noise_floor", "realised_volatility", "implied_volatility", "signal_to_noise")
        return {
            "as_of": self.as_of.isoformat(),
            "window_hours": self.settings.hours,
            **{name: self.profile[name] for name in names},
            "noise_state": self.state,
        }

    def summary(self) -> str:
        """Return the result in four lines for a person."""
        profile = self.profile
        return (
            f"S&P 500 noise floor: {len(self.days)} rows, {self.days[0]} to {self.days[-1]}\n"
            f"a daily move of up to {profile['noise_floor']:.2%} is noise; "
            f"outliers: {profile['outliers']:.0f} of {len(self.days) - 1} returns\n"
            f"volatility a year: realised {profile['realised_volatility']:.2f} %, "
            f"by range {profile['range_volatility']:.2f} %, "
            f"implied {profile['implied_volatility']:.2f} %\n"
            f"the move of the window is {profile['signal_to_noise']:.2f} times its noise: "
            f"{self.state}"
        )


def noise_of(returns: list[float]) -> dict[str, float]:
    """Return the noise floor, what lies outside it, and how far the sum of returns stands out."""
    spread(returns)
    floor = robust_deviation(returns)
    if floor < FLAT:
        raise Refusal("most returns in the window are equal: there is no noise floor", status=1)
    centre = median(returns)
    outliers = sum(abs(value - centre) > OUTLIER_BEYOND * floor for value in returns)
    move = abs(math.fsum(returns))
    return {
        "noise_floor": rounded(floor, 8),
        "outliers": outliers,
        "outlier_share": rounded(outliers / len(returns), 6),
        "signal_to_noise": rounded(move / (floor * math.sqrt(len(returns))), 4),
    }


def volatility_of(
    returns: list[float], highs: list[float], lows: list[float], vix: list[float]
) -> dict[str, float]:
    """Return realised, range and implied volatility in percent a year, and how they compare."""
    year = 100 * math.sqrt(TRADING_DAYS)
    ranges = [math.log(high / low) ** 2 for high, low in zip(highs, lows, strict=True)]
    realised = stdev(returns) * year
    implied = mean(vix)
    return {
        "realised_volatility": rounded(realised, 4),
        "range_volatility": rounded(math.sqrt(mean(ranges) / (4 * math.log(2))) * year, 4),
        "implied_volatility": rounded(implied, 4),
        "implied_volatility_last": rounded(vix[-1], 4),
        "volatility_premium": rounded(implied - realised, 4),
        "volatility_ratio": rounded(realised / implied, 6),
    }


class Refusal(Exception):
    """The function ends without a result: status 1 for the data, 2 for the configuration."""

    def __init__(self, message: str, *, status: int) -> None:
        """Keep the exit status beside the message."""
        super().__init__(message)
        self.status = status


class Settings:
    """What the configuration file may set; keys it does not know are the orchestrator's."""

    def __init__(self, given: dict[str, object]) -> None:
        """Check every value, so that nothing is computed from a wrong one."""
        hours = given.get("default_window_hours", WINDOW_HOURS)
        if isinstance(hours, bool) or not isinstance(hours, int | float):
            raise _wrong("default_window_hours", "a number of hours", hours)
        if not 0 < hours <= WINDOW_HOURS_MAX:
            raise _wrong("default_window_hours", f"over 0 and at most {WINDOW_HOURS_MAX}", hours)
        min_rows = given.get("min_rows", MIN_ROWS)
        if isinstance(min_rows, bool) or not isinstance(min_rows, int):
            raise _wrong("min_rows", "a whole number", min_rows)
        if min_rows < MIN_ROWS_MIN:
            raise _wrong("min_rows", f"at least {MIN_ROWS_MIN}", min_rows)
        data_dir = given.get("data_dir", os.path.join("..", "data"))
        if not isinstance(data_dir, str) or not data_dir or "\0" in data_dir:
            raise _wrong("data_dir", "the path of a folder", data_dir)
        here = os.path.dirname(os.path.abspath(__file__))
        self.hours = hours
        self.min_rows = min_rows
        self.as_of = _as_of(given.get("as_of"))
        self.data_dir = os.path.normpath(os.path.join(here, data_dir))

    def covers(self, day: date, as_of: date) -> bool:
        """Return whether `day` lies within the window that ends with the day `as_of`."""
        return 0 <= (as_of - day).days * 24 < self.hours

    def require_rows(self, count: int, as_of: date, source: str) -> None:
        """Refuse a window with fewer rows than `min_rows`."""
        if count < self.min_rows:
            raise Refusal(
                f"{count} rows of {source} lie in the {self.hours} hours up to {as_of}, "
                f"{self.min_rows} are needed: widen default_window_hours, move as_of "
                "or lower min_rows",
                status=1,
            )


def read_settings() -> Settings:
    """Return the settings of the file named by RUNWRIGHT_CONFIG, or the defaults without one."""
    path = os.environ.get("RUNWRIGHT_CONFIG")
    if path is None:
        return Settings({})
    try:
        with open(path, "rb") as file:
            given = json.loads(file.read())
    except OSError as error:
        raise Refusal(f"the configuration {path}: {error.strerror}", status=2) from error
    except (ValueError, RecursionError) as error:
        raise Refusal(f"the configuration {path} is not JSON: {error}", status=2) from error
    if not isinstance(given, dict):
        raise Refusal(f"the configuration {path} must be a JSON object", status=2)
    return Settings(given)


def _as_of(given: object) -> date | None:
    """Return the day that is given as YYYY-MM-DD, or None without one."""
    if given is None:
        return None
    try:
        day = date.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        day = None
    if day is None or day.isoformat() != given:
        raise _wrong("as_of", "a date as YYYY-MM-DD", given)
    return day


def _wrong(key: str, expected: str, found: object) -> Refusal:
    """Return the refusal of one configuration value."""
    return Refusal(f"{key} must be {expected}, not {str(found)[:80]!r}", status=2)


class Series:
    """One CSV file of daily rows, oldest first, each value positive."""

    def __init__(self, path: str) -> None:
        """Read the file once, for its rows and for its digest."""
        self.name = os.path.basename(path)
        try:
            with open(path, "rb") as file:
                content = file.read()
            lines = content.decode("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Refusal(f"the data {path} cannot be read: {error}", status=1) from error
        self.digest = hashlib.sha256(content).hexdigest()
        self.days: list[date] = []
        self.columns: dict[str, list[float]] = {}
        names = lines[0].split(",")[1:] if lines else []
        if not lines or not lines[0].startswith("date,") or "close" not in names:
            raise Refusal(f"the data {path} must begin with date,…,close", status=1)
        columns: list[list[float]] = [[] for _ in names]
        for number, line in enumerate(lines[1:], start=2):
            day, values = _row(line, f"{path}:{number}", width=len(names))
            if self.days and day <= self.days[-1]:
                raise Refusal(f"{path}:{number}: {day} does not follow {self.days[-1]}", status=1)
            self.days.append(day)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        if not self.days:
            raise Refusal(f"the data {path} holds no rows", status=1)
        self.columns = dict(zip(names, columns, strict=True))

    def window(self, settings: Settings, as_of: date) -> slice:
        """Return which rows lie within the window that ends with `as_of`."""
        inside = [place for place, day in enumerate(self.days) if settings.covers(day, as_of)]
        return slice(inside[0], inside[-1] + 1) if inside else slice(0, 0)


def _row(line: str, where: str, *, width: int) -> tuple[date, list[float]]:
    """Return the day and the values of one line, or refuse it by its place."""
    day_text, *value_texts = line.split(",")
    try:
        day = date.fromisoformat(day_text)
        values = [float(text) for text in value_texts]
    except ValueError as error:
        raise Refusal(f"{where}: {error}", status=1) from error
    if len(values) != width or not all(0 < value < math.inf for value in values):
        raise Refusal(f"{where}: {width} positive values are needed", status=1)
    return day, values


def log_returns(closes: list[float]) -> list[float]:
    """Return ln(close / previous close) of every row but the first."""
    return [math.log(after / before) for before, after in itertools.pairwise(closes)]


def mean(values: list[float]) -> float:
    """Return the arithmetic mean."""
    return math.fsum(values) / len(values)


def stdev(values: list[float]) -> float:
    """Return the sample standard deviation (n - 1)."""
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def median(values: list[float]) -> float:
    """Return the middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def robust_deviation(values: list[float]) -> float:
    """Return the median absolute deviation from the median, on the scale of a normal stdev."""
    centre = median(values)
    return MAD_TO_STDEV * median([abs(value - centre) for value in values])


def spread(returns: list[float]) -> float:
    """Return the standard deviation of returns, refusing returns that do not vary."""
    deviation = stdev(returns)
    if deviation < FLAT:
        raise Refusal("the closes in the window do not vary: nothing can be measured", status=1)
    return deviation


def rounded(value: float, digits: int) -> float:
    """Return the value at fixed decimals, never a negative zero."""
    return round(value, digits) + 0.0


def keep(table: str, columns: dict[str, object]) -> None:
    """Write a row of the run to a granted database (tables.sql); without one, do nothing."""
    url = os.environ.get("DATABASE_URL", "")
    run = os.environ.get("RUNWRIGHT_RUN_ID")
    if run is None or not (url or os.environ.get("PGHOST")):
        return
    try:
        import psycopg
    except ImportError:
        print("psycopg is not installed: the result is left, and no row", file=sys.stderr)
        return
    values = {"run_id": run, **columns}
    names, marks = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
    statement = (
        f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT (run_id) DO UPDATE SET {sets}"
    )
    try:
        with psycopg.connect(url, connect_timeout=10) as db:
            db.execute(statement, values)
    except psycopg.Error as error:
        raise Refusal(f"{table} cannot be written: {error}", status=1) from error


def publish(result: dict[str, object]) -> None:
    """Put the result where RUNWRIGHT_RESULT says, whole or not at all; without it, print it."""
    text = json.dumps(result, indent=2, sort_keys=True, allow_nan=False) + "\n"
    target = os.environ.get("RUNWRIGHT_RESULT")
    if target is None:
        sys.stdout.write(text)
        return
    partial = f"{target}.partial"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        message = f"the result {target} cannot be written: {error.strerror}"
        raise Refusal(message, status=1) from error


if __name__ == "__main__":
    sys.exit(main())
