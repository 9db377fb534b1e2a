import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Instant;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Scanner;

class Main {
    public static void main(String[] arguments) throws Exception {
        var lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            var fields = Arrays.stream(lines.nextLine().split(":", -1)).map(HexFormat.of()::parseHex).toList();
            var texts = fields.stream().map(field -> new String(field, UTF_8)).toList();
            var now = texts.get(1).isEmpty() ? Instant.now() : Instant.ofEpochSecond(Long.parseLong(texts.get(1)));
            var genuine = texts.get(0).equals("body")
                    ? Webhook.verifyBody(texts.get(2), texts.get(5), fields.get(6))
                    : Webhook.verify(texts.get(2), texts.get(3), texts.get(4), texts.get(5), fields.get(6), now);
            System.out.println(genuine ? "ok" : "refused");
        }
    }
}
