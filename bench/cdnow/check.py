#!/usr/bin/env python3
"""Checks a CDNOW replay against the purchase log itself.

Shares no code with the product: it reads the same file, works out by plain arithmetic what every
purchase should have earned, reads the running server through its public API, and exits 1 with each
difference. Usage: check.py MANIFEST, the JSON file that `bench replay cdnow` wrote.
"""
import json
import sys
import urllib.request
from collections import Counter, defaultdict
from fractions import Fraction


def half_even(value):
    """The nearest whole number; halves go to the even one (Python's own rounding of a Fraction)."""
    return round(value)


def purchases(path, limit):
    """(line, customer, month, quantity, cents) of each purchase, in the file's order."""
    with open(path) as lines:
        next(lines)
        for number, line in enumerate(lines, start=1):
            if limit is not None and number > limit:
                return
            customer, date, quantity, dollars = line.split()
            whole, _, cents = dollars.partition(".")
            yield (number, int(customer), date[:4] + "-" + date[4:6], int(quantity),
                   int(whole) * 100 + int(cents.ljust(2, "0")))


def percentage(rules):
    """One percentage of every purchase, below an aktvator's cap for the month."""
    def offers(_aktvator, _month, cents):
        yield half_even(Fraction(cents * rules["bps"], 10_000)), True
    return offers


def tiers(rules):
    """Each part of the month's revenue at its own percentage, and a bonus for every purchase of the month that
    rises with their number, also for those that went before."""
    revenue, count, given = Counter(), Counter(), Counter()

    def offers(aktvator, month, cents):
        key = aktvator, month
        before, after = revenue[key], revenue[key] + cents
        starts = [start for start, _ in rules["tiers"]] + [None]
        parts = 0
        for (start, bps), end in zip(rules["tiers"], starts[1:]):
            top = after if end is None else min(after, end)
            parts += max(0, top - max(before, start)) * bps
        revenue[key] = after
        yield half_even(Fraction(parts, 10_000)), True
        count[key] += 1
        bonus = [amount for start, amount in rules["bonuses"] if start <= count[key]][-1]
        owed = bonus * (count[key] - 1) - given[key]
        given[key] += bonus
        yield bonus, False
        if owed > 0:
            given[key] += owed
            yield owed, False
    return offers


def expected(manifest):
    """What the purchases earn when they are judged in the file's order."""
    rules = manifest["rules"]
    offers = tiers(rules) if "tiers" in rules else percentage(rules)
    rewards = Counter()       # (aktvator, month) -> cents
    codes = Counter()
    months = defaultdict(lambda: {"conversions": 0, "revenue": 0, "rewardAmount": 0})
    of_month = Counter()      # what counts for the cap of an aktvator's month
    total = 0
    events = {}
    for number, customer, month, _, cents in purchases(manifest["file"], manifest["limit"]):
        aktvator = manifest["aktvators"][customer % len(manifest["aktvators"])]
        said, earned = [], 0
        for wanted, is_capped in offers(aktvator, month, cents):
            left = rules["campaignCap"] - total
            if is_capped:
                left = min(left, rules["aktvatorMonthCap"] - of_month[aktvator, month])
            paid = max(min(wanted, left), 0)
            said.append("zero_amount" if wanted == 0 else "cap_exceeded" if paid == 0
                        else "clipped" if paid < wanted else "rewarded")
            of_month[aktvator, month] += paid if is_capped else 0
            total += paid
            earned += paid
        code = next((code for code in ("clipped", "rewarded") if code in said), said[0])
        rewards[aktvator, month] += earned
        codes[code] += 1
        events[f"cdnow-{number}"] = (code, earned, cents, month, aktvator)
        months[month]["conversions"] += 1
        months[month]["revenue"] += cents
        months[month]["rewardAmount"] += earned
    return events, codes, +rewards, dict(months), total


class Api:
    def __init__(self, manifest):
        self.url, self.key = manifest["url"], manifest["apiKey"]

    def get(self, path):
        request = urllib.request.Request(self.url + path,
                                         headers={"authorization": "Bearer " + self.key})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def pages(self, path):
        cursor = ""
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}limit=100{cursor}")
            yield from page["data"]
            if not page["hasMore"]:
                return
            cursor = "&startingAfter=" + page["nextCursor"]


def main():
    with open(sys.argv[1]) as file:
        manifest = json.load(file)
    api, ordered, wrong = Api(manifest), manifest["ordered"], []

    def same(what, got, want):
        if got != want:
            wrong.append(f"{what}: the server says {got}, the file says {want}")

    events, codes, rewards, months, total = expected(manifest)

    seen = Counter()
    keys = set()
    for event in api.pages("/events"):
        key = event["idempotencyKey"]
        if key in keys:
            wrong.append(f"{key} is listed twice")
        keys.add(key)
        code = event["decision"]["code"]
        seen[code] += 1
        if ordered:
            same(f"decision of {key}", code, events[key][0])
        same(f"amount of {key}", event["amount"], events[key][2])
    same("events", len(keys), len(events))
    same("set of events", keys, set(events)) if keys != set(events) else None
    if ordered:
        same("decision codes", dict(seen), dict(codes))

    paid = Counter()
    for reward in api.pages("/rewards"):
        paid[reward["aktvatorId"], reward["occurredAt"][:7]] += reward["amount"]
        same(f"status of {reward['id']}", reward["status"], "pending")
    for key in sorted(set(paid) | set(rewards)):
        same(f"rewards of {key}", paid[key], rewards[key])

    wallet = api.get(f"/organizations/{manifest['organizationId']}/wallet")
    same("wallet reserved", wallet["reserved"], total)
    same("wallet available", wallet["available"], manifest["funds"] - total)
    same("wallet balance", wallet["balance"], manifest["funds"])

    query = (f"/campaigns/{manifest['campaignId']}/performance?from=1997-01-01T05:00:00Z"
             "&to=1998-08-01T04:00:00Z&granularity=month&timezone=America/New_York")
    report = api.get(query)
    got = {row["bucket"][:7]: {name: row[name] for name in ("conversions", "revenue", "rewardAmount")}
           for row in report["rows"]}
    same("performance months", sorted(got), sorted(months))
    for month in sorted(set(got) & set(months)):
        same(f"performance of {month}", got[month], months[month])
    same("performance total", report["totals"]["rewardAmount"], total)

    for line in wrong[:40]:
        print(line)
    binding = codes["clipped"] + codes["cap_exceeded"]
    print(f"cdnow check: {len(events)} events, {sum(rewards.values())} cents rewarded over "
          f"{len(rewards)} aktvator-months, {binding} purchases met a cap, {len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
