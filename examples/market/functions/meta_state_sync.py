"""Derive the meta state of the market data: its regime, and whether the data can be trusted.

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
from datetime import date, timedelta

FUNCTION = "vision_meta_state_sync"
AGENT = "LARS"
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
#: A drift of less than this many standard errors from zero is called flat.
NEUTRAL_BELOW = 1.0
#: Realised and implied volatility agree within this many standard errors of the realised one.
AGREE_WITHIN = 2.0
#: Implied volatility in the lowest third of its history is calm, in the highest stressed.
CALM_BELOW, STRESSED_ABOVE = 1 / 3, 2 / 3
#: A series is fresh when at most this many weekdays passed without a row: one may be a holiday.
LAG_MAX = 1
#: Holidays leave about 0.96 of the weekdays; far fewer mean that the data do not fill the window.
COVERAGE_MIN = 0.8


def main() -> int:
    """Compute, publish and summarise; 0 with a result, 1 and 2 as `Refusal` says."""
    try:
        state = MetaState(read_settings())
        publish(state.result())
    except Refusal as refusal:
        print(f"{FUNCTION}: {refusal}", file=sys.stderr)
        return refusal.status
    print(state.summary())
    return 0


class MetaState:
    """Regime, agreement of the two series, freshness and completeness."""

    def __init__(self, settings: Settings) -> None:
        """Compute the state from the data alone, not from what other functions left."""
        self.prices = Series(os.path.join(settings.data_dir, "sp500.csv"))
        self.implied = Series(os.path.join(settings.data_dir, "vix.csv"))
        self.settings = settings
        self.as_of = settings.as_of or max(self.prices.days[-1], self.implied.days[-1])
        price_by_day = self._in_window(self.prices)
        vix_by_day = self._in_window(self.implied)
        self.days = sorted(price_by_day.keys() & vix_by_day.keys())
        settings.require_rows(len(self.days), self.as_of, "both series")
        closes = [price_by_day[day] for day in self.days]
        vix = [vix_by_day[day] for day in self.days]
        self.market = self._market(log_returns(closes), vix)
        self.data = {
            "completeness": rounded(
                len(self.days) / len(price_by_day.keys() | vix_by_day.keys()), 6
            ),
            "coverage": rounded(len(self.days) / self._weekdays_in_window(), 6),
            "sp500_lag_weekdays": self._lag(self.prices),
            "vix_lag_weekdays": self._lag(self.implied),
        }

    def result(self) -> dict[str, object]:
        """Return what is published."""
        return {
            "function": FUNCTION,
            "agent_id": AGENT,
            "as_of": self.as_of.isoformat(),
            "window_hours": self.settings.hours,
            "first_day": self.days[0].isoformat(),
            "last_day": self.days[-1].isoformat(),
            "rows": len(self.days),
            "inputs": {series.name: series.digest for series in (self.prices, self.implied)},
            "meta_state": {
                "state": "DEGRADED" if self.doubts else "IN_SYNC",
                "doubts": self.doubts,
                "regime": f"{self.trend}_{self.stress}",
                "trend": self.trend,
                "stress": self.stress,
                "agreement": self.agreement,
            },
            "metrics": {
                **self.market,
                **self.data,
                "doubts": len(self.doubts),
                "rows": len(self.days),
            },
        }

    def summary(self) -> str:
        """Return the result in four or five lines for a person."""
        market, data = self.market, self.data
        state = "DEGRADED" if self.doubts else "IN_SYNC"
        text = (
            f"meta state {state}: {len(self.days)} rows of both series, "
            f"{self.days[0]} to {self.days[-1]}\n"
            f"regime {self.trend}_{self.stress}: drift {market['drift_t']:+.2f} standard errors, "
            f"implied volatility above {market['implied_rank']:.0%} of its history\n"
            f"realised / implied volatility {market['volatility_ratio']:.2f}: {self.agreement}; "
            f"correlation {market['correlation']:+.2f}\n"
            f"completeness {data['completeness']:.0%}, {data['coverage']:.0%} of the weekdays; "
            f"lag {data['sp500_lag_weekdays']:.0f} and {data['vix_lag_weekdays']:.0f} weekdays"
        )
        return "\n".join([text, f"doubts: {'; '.join(self.doubts)}"] if self.doubts else [text])

    @property
    def trend(self) -> str:
        """The direction of the S&P 500, once its drift is a standard error away from none."""
        if abs(self.market["drift_t"]) < NEUTRAL_BELOW:
            return "FLAT"
        return "RISING" if self.market["drift_t"] > 0 else "FALLING"

    @property
    def stress(self) -> str:
        """The third of its history in which the implied volatility of the window lies."""
        rank = self.market["implied_rank"]
        if rank < CALM_BELOW:
            return "CALM"
        return "STRESSED" if rank > STRESSED_ABOVE else "NORMAL"

    @property
    def agreement(self) -> str:
        """Whether realised volatility is what the VIX expected, within its sampling error."""
        if abs(self.market["volatility_gap"]) <= AGREE_WITHIN:
            return "AGREE"
        above = self.market["volatility_gap"] > 0
        return "REALISED_ABOVE_IMPLIED" if above else "REALISED_BELOW_IMPLIED"

    @property
    def doubts(self) -> list[str]:
        """What speaks against trusting the data of the window."""
        found = [
            f"{name} has no row for {self.data[f'{name}_lag_weekdays']:.0f} weekdays"
            for name in ("sp500", "vix")
            if self.data[f"{name}_lag_weekdays"] > LAG_MAX
        ]
        if self.data["completeness"] < 1:
            found.append("some days are in one series only")
        if self.data["coverage"] < COVERAGE_MIN:
            found.append("the data do not fill the window")
        return found

    def _market(self, returns: list[float], vix: list[float]) -> dict[str, float]:
        """Return drift, volatilities and how the two series move together."""
        deviation = spread(returns)
        realised = deviation * 100 * math.sqrt(TRADING_DAYS)
        implied = mean(vix)
        history = [
            value
            for day, value in zip(self.implied.days, self.implied.columns["close"], strict=True)
            if day <= self.as_of
        ]
        ratio = realised / implied
        ratio_error = 1 / math.sqrt(2 * (len(returns) - 1))
        return {
            "correlation": rounded(correlation(returns, log_returns(vix)), 6),
            "drift_t": rounded(mean(returns) / (deviation / math.sqrt(len(returns))), 4),
            "implied_rank": rounded(sum(value <= implied for value in history) / len(history), 6),
            "implied_volatility": rounded(implied, 4),
            "realised_volatility": rounded(realised, 4),
            "volatility_gap": rounded(math.log(ratio) / ratio_error, 4),
            "volatility_ratio": rounded(ratio, 6),
        }

    def _in_window(self, series: Series) -> dict[date, float]:
        """Return the closes of the window by day."""
        window = series.window(self.settings, self.as_of)
        return dict(zip(series.days[window], series.columns["close"][window], strict=True))

    def _lag(self, series: Series) -> int:
        """Return how many weekdays up to `as_of` follow the last row known by then."""
        last = max(day for day in series.days if day <= self.as_of)
        return sum(is_weekday(last + timedelta(n + 1)) for n in range((self.as_of - last).days))

    def _weekdays_in_window(self) -> int:
        """Return how many weekdays the window holds, trading days or not."""
        days = math.ceil(self.settings.hours / 24)
        return sum(is_weekday(self.as_of - timedelta(n)) for n in range(days))


def is_weekday(day: date) -> bool:
    """Return whether the day is a Monday to Friday."""
    return day.isoweekday() <= 5


def correlation(left: list[float], right: list[float]) -> float:
    """Return Pearson's correlation of two equally long lists of returns."""
    left_mean, right_mean = mean(left), mean(right)
    products = ((a - left_mean) * (b - right_mean) for a, b in zip(left, right, strict=True))
    return math.fsum(products) / (len(left) - 1) / (spread(left) * spread(right))


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


def spread(returns: list[float]) -> float:
    """Return the standard deviation of returns, refusing returns that do not vary."""
    deviation = stdev(returns)
    if deviation < FLAT:
        raise Refusal("the closes in the window do not vary: nothing can be measured", status=1)
    return deviation


def rounded(value: float, digits: int) -> float:
    """Return the value at fixed decimals, never a negative zero."""
    return round(value, digits) + 0.0


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
