// Reads PromQL expressions as JSON from stdin, and says of each what is wrong and which metrics it names. The parser is
// Prometheus' own, of its web page.
import { readFileSync } from 'node:fs';
import { parser } from '@prometheus-io/lezer-promql';

const answers = JSON.parse(readFileSync(0, 'utf8')).map((expression) => {
  const wrong = [];
  const metrics = [];
  parser.parse(expression).iterate({
    enter: (node) => {
      const text = expression.slice(node.from, node.to);
      if (node.type.isError) wrong.push(`at ${node.from}: ${text || 'something is missing'}`);
      if (node.name === 'Identifier' && node.node.parent.name === 'VectorSelector') metrics.push(text);
    },
  });
  return { wrong, metrics };
});
process.stdout.write(JSON.stringify(answers));
