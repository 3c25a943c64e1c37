import { TOKEN_OP_NAMES, TOKEN_OPS, WALKING_OPS } from "../../src/domain/token.ts";
import { type DoorSubject, TOKEN_DOORS } from "../../src/domain/token-doors.ts";
import { PAST_NEED, TOKEN_NEEDS, type TokenNeed } from "../../src/domain/token-needs.ts";

/** The tables of docs/tokens.md, made of the code. */

export function operationsTable(): string {
  const rows = TOKEN_OP_NAMES.map((op) => `| \`${op}\` | ${TOKEN_OPS[op]} |`);
  return ["| operation | what it allows |", "|---|---|", ...rows].join("\n");
}

export function requestsTable(): string {
  const rows = TOKEN_NEEDS.map(({ op, variant, needs }) => {
    return `| \`${op}\` | ${variant} | ${needsText(needs)} |`;
  });
  const past = `| any of these | at another moment than now | also ${needText(PAST_NEED)} |`;
  return ["| request | which | takes |", "|---|---|---|", ...rows, past].join("\n");
}

const SUBJECTS: Readonly<Record<DoorSubject, string>> = {
  listed: "the app; of lists what the token is for",
  place: "a place in the token's directory",
  share: "a whole share",
  app: "the whole app",
};

export function callsTable(): string {
  const rows = TOKEN_DOORS.map(({ call, subject, needs, past }) => {
    const also = past ? `; at another moment than now also ${needText(PAST_NEED)}` : "";
    return `| \`${call}\` | ${SUBJECTS[subject]} | ${needsText(needs)}${also} |`;
  });
  return ["| call | about | takes |", "|---|---|---|", ...rows].join("\n");
}

function needsText(needs: readonly TokenNeed[]): string {
  return needs.length === 0 ? "nothing" : needs.map(needText).join(", and ");
}

function needText(need: TokenNeed): string {
  return need === WALKING_OPS ? "any of the first seven" : need.map((op) => `\`${op}\``).join(" or ");
}
