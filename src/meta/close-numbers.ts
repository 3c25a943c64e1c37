/** Numbers of one group at most: the rows of a group are read in one go. */
const SPAN_MAX = 512;

/**
 * `numbers` (ascending, each once) in groups in which none is further than `gapMax` from the one before: what was made one after the other, as the files of a directory mostly are, has rows that lie
 * together. One query for them and the few between costs less than one for each.
 */
export function closeNumbers<T extends number>(numbers: readonly T[], gapMax: number): T[][] {
  const groups: T[][] = [];
  let group: T[] = [];
  for (const number of numbers) {
    const isClose = group.length > 0 && number - (group.at(-1) ?? 0) <= gapMax && number - (group[0] ?? 0) < SPAN_MAX;
    if (!isClose) {
      group = [];
      groups.push(group);
    }
    group.push(number);
  }
  return groups;
}
