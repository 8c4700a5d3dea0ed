import { Cluster, type ClusterNode } from 'ioredis';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';

export function engine(nodes: ClusterNode[]) {
  return bullmqEngine({
    // Returns a new client at each call. The engine closes them.
    connection: () => new Cluster(nodes),
    // The braces keep the keys of the queue on one node.
    queue: '{tasks}',
  });
}
