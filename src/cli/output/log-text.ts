/** A log line of pino (JSON) as a person reads it: local time of day, level, words, fields. What is no such line is passed on. */
export function logText(line: string): string {
  const fields = parse(line);
  if (fields === undefined) return line;
  const { level, time, msg, alarm: _alarm, ...rest } = fields;
  const at = new Date(Number(time));
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
  const said = Object.entries(rest).filter(([, value]) => value !== null && value !== undefined);
  const words = [
    clock,
    levelWord(Number(level)),
    String(msg ?? ""),
    ...said.map(([name, value]) => `${name}=${short(value)}`),
  ];
  return `${words.join(" ")}\n`;
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** pino's numbers. */
function levelWord(level: number): string {
  if (level >= 60) return "ALARM";
  if (level >= 50) return "error";
  if (level >= 40) return "warning";
  return level >= 30 ? "info" : "debug";
}

function short(value: unknown): string {
  if (typeof value === "object" && value !== null && "message" in value) return String(value.message);
  return typeof value === "string" && !/[\s"=]/.test(value) ? value : JSON.stringify(value);
}
