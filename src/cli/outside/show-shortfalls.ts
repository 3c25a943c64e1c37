import { textFromBytes } from "../../domain/byte-text.ts";
import { formatCount, plural } from "../output/human.ts";
import type { Output } from "../output/output.ts";
import type { ShortfallList } from "./shortfalls.ts";

/** Lists for a person what could not be `done` ("restored"); nothing when there is nothing. */
export function showShortfalls(output: Output, shortfalls: ShortfallList, done: string): void {
  if (shortfalls.count === 0) return;
  output.note(output.style("yellow", `${plural(shortfalls.count, "thing")} could not be ${done}:`));
  for (const { path, part, reason } of shortfalls.listed) {
    output.note(`  ${path.length === 0 ? "." : textFromBytes(path)}: ${part}: ${reason}`);
  }
  if (shortfalls.count > shortfalls.listed.length)
    output.note(`  ... and ${formatCount(shortfalls.count - shortfalls.listed.length)} more`);
}
