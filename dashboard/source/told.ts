// What the API tells, as docs/api.rst has it.

export type Status = "enabled" | "warning" | "disabled";

interface Item {
  name: string;
  provider: string;
  status: Status;
  error?: string[];
}

export interface Router extends Item {
  entryPoints: string[];
  using: string[];
  rule: string;
  priority: number;
  service: string;
  middlewares?: string[];
  tls?: object;
}

export interface Server {
  url: string;
  weight: number;
  task?: string;
  node?: string;
}

export interface Service extends Item {
  type: string;
  usedBy: string[];
  loadBalancer?: { servers: Server[]; strategy?: string };
  serverStatus?: Record<string, "UP" | "DOWN">;
}

export interface Middleware extends Item {
  type: string;
  usedBy: string[];
  [settings: string]: unknown;
}

export interface Certificate extends Item {
  names: string[];
  issuer: string;
  notBefore: number;
  notAfter: number;
  kind: string;
  origin: string;
  isDefault: boolean;
}

export interface Count {
  total: number;
  warnings: number;
  errors: number;
}

export interface Overview {
  http: { routers: Count; services: Count; middlewares: Count };
  features: { operations: boolean; logs: boolean };
  providers: string[];
}

// What an agent on the node measures; a gate without agents has none of it, and of an agent that has told nothing yet
// all but the error is null.
export interface NodeUsage {
  cpus: number | null;
  cpu: number | null; // The share of all of them that is in use.
  memory: { total: number; used: number } | null;
  disk?: { total: number; used: number } | null;
  error?: string | null;
}

export interface TaskUsage {
  cpu: number; // Processors in use.
  memory: number;
  memoryLimit?: number | null;
}

export interface Task {
  id: string;
  slot: number;
  node: string;
  state: string;
  error: string;
  exitCode: number | null;
  url: string;
  reason: string;
  inFlight: number;
  outdated: boolean;
  usage?: TaskUsage | null;
}

export interface Update {
  state: string;
  message: string;
  started: number;
  completed: number;
}

export interface SwarmService {
  id: string;
  name: string;
  image: string;
  replicas: number | null;
  networks: string[];
  problems: string[];
  update?: Update | null;
  tasks: Task[];
  usage?: TaskUsage | null;
}

export interface SwarmNode {
  id: string;
  hostname: string;
  availability: string;
  state: string;
  role?: string;
  leader?: boolean;
  usage?: NodeUsage | null;
}

export interface Swarm {
  nodes: SwarmNode[];
  services: SwarmService[];
}

export interface Tally {
  requests: number;
  errors: number;
  p50: number;
  p95: number;
  p99: number;
  inFlight: number;
}

// What ended in a second.
export interface Traffic {
  at: number;
  seconds: number;
  entryPoints: Record<string, Tally>;
  services: Record<string, Tally>;
  servers: Record<string, Record<string, Tally>>;
  others: number;
}

export interface Log {
  lines: { time: string; task: string; node: string; stream: string; text: string }[];
  complete: boolean;
}

export interface Why {
  answers?: { entry_point: string; router: string; is_routed: boolean; sentences: string[] }[];
  disabled?: { name: string; sentence: string }[];
  findings?: { service: string; sentence: string; is_hint: boolean }[];
}
