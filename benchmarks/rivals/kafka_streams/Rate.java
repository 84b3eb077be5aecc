import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The job in Kafka Streams, by its DSL: Rate BOOTSTRAP SOURCE OUT FOLDER memory|rocksdb. Keyed by customer, so nothing
 * is sent round once more; windows of an hour of event time, in each the totals of the customer's models. The cache holds
 * changed windows back until the next commit (every 100 ms), so each is emitted once per commit. At least once, with
 * changelogs for both stores.
 */
public class Rate {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final ObjectReader USAGE = JSON.readerFor(Usage.class);

    @JsonIgnoreProperties(ignoreUnknown = true)
    public record Usage(String source, String id, String subject, String time, Data data) {}

    @JsonIgnoreProperties(ignoreUnknown = true)
    public record Data(long tokens, String model) {}

    public record Line(String customer, String model, String hour, long quantity, long events, long amount) {}

    /** Tokens and events by model. */
    static class Totals extends HashMap<String, long[]> {
        Totals add(Usage usage) {
            long[] total = computeIfAbsent(usage.data.model, model -> new long[2]);
            total[0] += usage.data.tokens;
            total[1] += 1;
            return this;
        }
    }

    /** Lets the first event of an identity through. */
    static class Once implements FixedKeyProcessor<String, Usage, Usage> {
        private FixedKeyProcessorContext<String, Usage> context;
        private KeyValueStore<String, byte[]> seen;

        public void init(FixedKeyProcessorContext<String, Usage> context) {
            this.context = context;
            seen = context.getStateStore("seen");
        }

        public void process(FixedKeyRecord<String, Usage> record) {
            String identity = record.value().source + "|" + record.value().id;
            if (seen.putIfAbsent(identity, new byte[] {1}) == null) {
                context.forward(record);
            }
        }
    }

    public static void main(String[] arguments) {
        String source = arguments[1], out = arguments[2];
        boolean memory = arguments[4].equals("memory");
        Properties settings = new Properties();
        settings.put("application.id", out + "-kafka-streams");
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("state.dir", arguments[3]);
        settings.put("auto.offset.reset", "earliest");
        settings.put("num.stream.threads", 1);
        settings.put("replication.factor", 1);
        settings.put("commit.interval.ms", 100);
        settings.put("statestore.cache.max.bytes", 256 * 1024 * 1024);
        settings.put("consumer.max.poll.records", 10_000);
        settings.put("producer.linger.ms", 20);
        settings.put("producer.batch.size", 256 * 1024);

        StreamsBuilder builder = new StreamsBuilder();
        var identities = memory ? Stores.inMemoryKeyValueStore("seen") : Stores.persistentKeyValueStore("seen");
        builder.addStateStore(Stores.keyValueStoreBuilder(identities, Serdes.String(), Serdes.ByteArray()));
        Duration hour = Duration.ofHours(1), kept = Duration.ofDays(35);
        var windows = memory
                ? Stores.inMemoryWindowStore("totals", kept, hour, false)
                : Stores.persistentWindowStore("totals", kept, hour, false);
        builder.stream(source, Consumed.with(Serdes.String(), usage()).withTimestampExtractor((record, before) ->
                        Instant.parse(((Usage) record.value()).time).toEpochMilli()))
                .processValues(Once::new, "seen")
                .groupByKey(Grouped.with(Serdes.String(), usage()))
                .windowedBy(TimeWindows.ofSizeAndGrace(hour, Duration.ofHours(1)))
                .aggregate(Totals::new, (customer, usage, totals) -> totals.add(usage), Materialized
                        .<String, Totals>as(windows).withKeySerde(Serdes.String()).withValueSerde(totals())
                        .withCachingEnabled())
                .toStream()
                .flatMap(Rate::lines)
                .to(out, Produced.with(Serdes.String(), Serdes.ByteArray()));

        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(5))));
        streams.start();
    }

    private static List<KeyValue<String, byte[]>> lines(Windowed<String> window, Totals totals) {
        List<KeyValue<String, byte[]>> lines = new ArrayList<>();
        String hour = window.window().startTime().toString().substring(0, 13);
        totals.forEach((model, total) -> {
            Line line = new Line(window.key(), model, hour, total[0], total[1], price(total[0]));
            try {
                lines.add(KeyValue.pair(window.key(), JSON.writeValueAsBytes(line)));
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        });
        return lines;
    }

    /** Nano-dollars for so many tokens. */
    private static long price(long tokens) {
        return Math.min(tokens, 10_000) * 3_000
                + Math.max(0, Math.min(tokens, 100_000) - 10_000) * 2_000
                + Math.max(0, tokens - 100_000) * 1_500;
    }

    private static Serde<Usage> usage() {
        return Serdes.serdeFrom((topic, usage) -> { throw new UnsupportedOperationException(); }, (topic, bytes) -> {
            try {
                return USAGE.readValue(bytes);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        });
    }

    private static Serde<Totals> totals() {
        return Serdes.serdeFrom((topic, totals) -> write(totals), (topic, bytes) -> bytes == null ? null : read(bytes));
    }

    private static byte[] write(Totals totals) {
        var bytes = new ByteArrayOutputStream(64);
        try (var out = new DataOutputStream(bytes)) {
            out.writeByte(totals.size());
            for (Map.Entry<String, long[]> entry : totals.entrySet()) {
                out.writeUTF(entry.getKey());
                out.writeLong(entry.getValue()[0]);
                out.writeLong(entry.getValue()[1]);
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return bytes.toByteArray();
    }

    private static Totals read(byte[] bytes) {
        Totals totals = new Totals();
        try (var in = new DataInputStream(new ByteArrayInputStream(bytes))) {
            for (int models = in.readByte(); models > 0; models--) {
                totals.put(in.readUTF(), new long[] {in.readLong(), in.readLong()});
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return totals;
    }
}
