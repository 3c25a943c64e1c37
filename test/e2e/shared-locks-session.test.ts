import { afterAll, beforeAll, describe } from "vitest";
import { GatewayFixture } from "./gateway-fixture.ts";
import { lockFlows } from "./lock-flows.ts";
import { skipWithout } from "./requirements.ts";

const skipped = skipWithout("python3", "flock");

describe.skipIf(skipped)("locks shared with a mount whose service is elsewhere", { timeout: 180_000 }, () => {
  let fixture: GatewayFixture;
  let first: string;
  let second: string;

  beforeAll(async () => {
    fixture = await GatewayFixture.open();
    first = await fixture.service.mount("shop/files", "first", "--locks", "shared");
    second = await fixture.mount("second", await fixture.token(), "--locks", "shared");
  });
  afterAll(async () => fixture.dispose());

  lockFlows(() => ({
    service: fixture.service,
    first,
    second,
    elsewhere: true,
    killable: () => ({ service: fixture.service.servicePid, gateway: fixture.pidsOf(second).child }),
  }));
});
