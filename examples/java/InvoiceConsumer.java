import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * What each customer has been invoiced, from the topic alone: reads it to its end, keeps the highest revision of each
 * invoice, and adds the totals up, exactly. Java 17, kafka-clients and Jackson; one file, nothing to build:
 *
 * <pre>java -cp "$(python3 infra/kafka/broker.py classpath)" examples/java/InvoiceConsumer.java localhost:9092</pre>
 */
public class InvoiceConsumer {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        if (arguments.length < 1) {
            System.err.println("expected: InvoiceConsumer BOOTSTRAP [PREFIX]");
            System.exit(2);
        }
        String topic = (arguments.length > 1 ? arguments[1] : "") + "taximeter.invoices";
        Map<String, JsonNode> invoices = read(arguments[0], topic);
        totals(invoices).forEach((who, total) -> System.out.println(who + " " + total.toPlainString()));
    }

    /** Id -> the highest revision, of everything that the topic holds now. No consumer group: every run reads it all. */
    private static Map<String, JsonNode> read(String bootstrap, String topic) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "enable.auto.commit", false);
        Map<String, JsonNode> invoices = new HashMap<>();
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                    .map(found -> new TopicPartition(topic, found.partition()))
                    .toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    if (record.value() != null && record.value().length > 0) {
                        keep(invoices, JSON.readTree(new String(record.value(), StandardCharsets.UTF_8)));
                    }
                }
            }
        }
        return invoices;
    }

    /** The rule of every consumer: a higher revision replaces a lower one, and nothing else does. */
    private static void keep(Map<String, JsonNode> invoices, JsonNode invoice) {
        invoices.merge(invoice.get("id").asText(), invoice, (known, told) ->
                told.get("revision").asLong() > known.get("revision").asLong() ? told : known);
    }

    /** "customer currency" -> the sum of what was issued. Amounts are texts: never a double. */
    private static Map<String, BigDecimal> totals(Map<String, JsonNode> invoices) {
        Map<String, BigDecimal> totals = new TreeMap<>();
        for (JsonNode invoice : invoices.values()) {
            String status = invoice.get("status").asText();
            if (status.equals("issued") || status.equals("paid")) {
                String who = invoice.get("customer").asText() + " " + invoice.get("currency").asText();
                totals.merge(who, new BigDecimal(invoice.get("total").asText()), BigDecimal::add);
            }
        }
        return totals;
    }
}
