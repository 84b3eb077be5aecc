// Drives OpenMeter's SDK for Node against the URL of the first argument; prints what it saw as one JSON object.
import { OpenMeter } from '@openmeter/sdk'

const client = new OpenMeter({ baseUrl: process.argv[2], apiKey: 'a key' })
const at = (day, hour = 10) => new Date(Date.UTC(2026, 10, day, hour))
const seen = {}

async function refused(name, call) {
  try {
    seen[name] = { answered: await call() }
  } catch (error) {
    seen[name] = { kind: error.constructor.name, status: error.status, title: error.title, detail: error.getField?.('detail') }
  }
}

seen.created = await client.meters.create({
  slug: 'node_tokens', name: 'Tokens', aggregation: 'SUM', eventType: 'node', valueProperty: '$.tokens',
  groupBy: { model: '$.model' },
})
seen.got = (await client.meters.get('node_tokens')).id
seen.listed = (await client.meters.list()).map((meter) => meter.slug)

seen.ingested = (await client.events.ingest({ type: 'node', subject: 'acme', data: { tokens: '0.1', model: 'large' } })) ?? null
await client.events.ingest([
  { id: 'n1', source: 'node', type: 'node', subject: 'acme', time: at(5), data: { tokens: 0.2, model: 'large' } },
  { id: 'n2', source: 'node', type: 'node', subject: 'bob', time: at(6), data: { tokens: 5, model: 'small' } },
  { id: 'n2', source: 'node', type: 'node', subject: 'bob', time: at(6), data: { tokens: 5, model: 'small' } },
])
const old = { from: at(1, 0), to: at(20, 0) }
seen.queried = await client.meters.query('node_tokens', { ...old, windowSize: 'DAY', windowTimeZone: 'UTC', groupBy: ['model', 'subject'] })
seen.filtered = (await client.meters.query('node_tokens', { ...old, filterGroupBy: { model: 'small' } })).data
seen.subjects = (await client.meters.query('node_tokens', { ...old, subject: ['acme', 'bob'] })).data.map((row) => row.subject)
seen.posted = await client.meters.queryPost('node_tokens', { ...old, filterGroupBy: { model: ['large'] }, windowSize: 'MONTH' })
seen.values = await client.meters.listGroupByValues('node_tokens', 'model', old)
seen.events = (await client.events.list({ subject: 'bob' })).map((one) => one.event.id)
seen.second = (await client.events.listV2({ filter: JSON.stringify({ type: { $eq: 'node' } }), limit: 2 })).items.length

const customer = await client.customers.create({ name: 'Node', key: 'node-customer', usageAttribution: { subjectKeys: ['node-1'] } })
seen.customer = customer.key
seen.customers = (await client.customers.list({ key: 'node-customer' })).items.length
await client.features.create({ key: 'node_feature', name: 'F', meterSlug: 'node_tokens' })
seen.features = (await client.features.list()).map((feature) => feature.key)
seen.entitlement = (await client.customers.entitlements.create('node-customer', {
  featureKey: 'node_feature', type: 'metered', usagePeriod: { interval: 'MONTH' }, issueAfterReset: 10, isSoftLimit: false,
})).issueAfterReset
await client.events.ingest({ type: 'node', subject: 'node-1', data: { tokens: 4 } })
seen.value = await client.customers.entitlements.value('node-customer', 'node_feature')
seen.valueV1 = await client.customers.entitlementsV1.value('node-customer', 'node_feature')
seen.access = await client.customers.getAccess('node-customer')
seen.ofSubject = await client.entitlementsV1.value('node-1', 'node_feature')
seen.upserted = (await client.subjects.upsert([{ key: 'node-subject', displayName: 'Node' }]))[0].displayName
seen.subject = (await client.subjects.get('node-subject')).key
seen.updated = (await client.meters.update('node_tokens', { name: 'Renamed' })).name

await refused('exists', () => client.meters.create({ slug: 'node_tokens', aggregation: 'COUNT', eventType: 'node' }))
await refused('wrong', () => client.events.ingest([{ type: 'node', subject: 'acme' }, { type: 'node', subject: '' }]))
await refused('unknown', () => client.meters.get('nothing'))
await refused('notThere', () => client.plans.list())
await refused('grouped', () => client.meters.query('node_tokens', { groupBy: ['nothing'] }))
await refused('inUse', () => client.meters.delete('node_tokens'))
await client.meters.create({ slug: 'node_gone', aggregation: 'COUNT', eventType: 'node' })
seen.deleted = (await client.meters.delete('node_gone')) ?? null

console.log(JSON.stringify(seen))
