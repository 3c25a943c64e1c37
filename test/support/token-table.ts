import { TOKEN_OP_NAMES, TOKEN_OPS, WALKING_OPS } from "../../src/domain/token.ts";
import { PAST_NEED, TOKEN_NEEDS, type TokenNeed } from "../../src/domain/token-needs.ts";

/** The tables of docs/tokens.md, made of the code. */

export function operationsTable(): string {
  const rows = TOKEN_OP_NAMES.map((op) => `| \`${op}\` | ${TOKEN_OPS[op]} |`);
  return ["| operation | what it allows |", "|---|---|", ...rows].join("\n");
}

export function requestsTable(): string {
  const rows = TOKEN_NEEDS.map(({ op, variant, needs }) => {
    const wanted = needs.length === 0 ? "nothing" : needs.map(needText).join(", and ");
    return `| \`${op}\` | ${variant} | ${wanted} |`;
  });
  const past = `| any of these | at another moment than now | also ${needText(PAST_NEED)} |`;
  return ["| request | which | takes |", "|---|---|---|", ...rows, past].join("\n");
}

function needText(need: TokenNeed): string {
  return need === WALKING_OPS ? "any of the first seven" : need.map((op) => `\`${op}\``).join(" or ");
}
