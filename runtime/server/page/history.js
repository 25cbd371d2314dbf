// What the last two minutes were like, from counts that only ever grow.

const POINTS = 60;

/**
 * The latency in seconds that a share of the requests counted in buckets don't exceed, interpolated in its bucket; that
 * ends at the greatest latency where that lies in it.
 */
export function percentile(bounds, counts, share, greatest) {
  const wanted = share * counts.reduce((sum, count) => sum + count, 0);
  let below = 0;
  for (const [bucket, count] of counts.entries()) {
    if (count && below + count >= wanted) {
      const low = bucket ? bounds[bucket - 1] : 0;
      return low + ((Math.min(bounds[bucket] ?? greatest, greatest) - low) * (wanted - below)) / count;
    }
    below += count;
  }
  return 0;
}

/** The points of one model, each of the time between two looks at its counts. */
export class History {
  constructor() {
    this.points = [];
    this.last = null;
  }

  /** Takes the counts at a moment, in seconds; counts that fell are those of a server that was started anew. */
  add(seconds, counts) {
    const before = this.last;
    this.last = counts && { seconds, ...counts };
    if (!counts || !before || seconds <= before.seconds || counts.requests < before.requests) return;
    this.points.push(point(before, this.last));
    this.points.splice(0, this.points.length - POINTS);
  }
}

function point(before, after) {
  const seconds = after.seconds - before.seconds;
  const requests = after.requests - before.requests;
  const runs = after.runs - before.runs;
  const buckets = after.buckets.map((count, index) => count - before.buckets[index]);
  // The greatest latency so far may be of an earlier time; none is greater than all of this time together.
  const greatest = Math.min(after.greatest, after.latency - before.latency);
  const each = (stage) => (requests ? (after.stages[stage] - before.stages[stage]) / requests : null);
  return {
    rate: requests / seconds,
    errors: (after.errors - before.errors) / seconds,
    middle: requests ? percentile(after.bounds, buckets, 0.5, greatest) : null,
    slow: requests ? percentile(after.bounds, buckets, 0.99, greatest) : null,
    rows: runs ? (after.rows - before.rows) / runs : null,
    waiting: after.waiting,
    stages: Object.fromEntries(Object.keys(after.stages).map((stage) => [stage, each(stage)])),
  };
}
