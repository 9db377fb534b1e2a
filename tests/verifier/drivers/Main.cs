using System;
using System.Linq;
using System.Text;

static class Program
{
    static void Main()
    {
        for (string line; (line = Console.ReadLine()) != null;)
        {
            var fields = line.Split(':').Select(Bytes).ToArray();
            var texts = fields.Select(Encoding.UTF8.GetString).ToArray();
            var genuine = texts[0] == "body" ? Webhook.VerifyBody(texts[2], texts[5], fields[6])
                : texts[1] == "" ? Webhook.Verify(texts[2], texts[3], texts[4], texts[5], fields[6])
                : Webhook.Verify(texts[2], texts[3], texts[4], texts[5], fields[6], long.Parse(texts[1]));
            Console.WriteLine(genuine ? "ok" : "refused");
        }
    }

    static byte[] Bytes(string digits) =>
        Enumerable.Range(0, digits.Length / 2).Select(at => Convert.ToByte(digits.Substring(2 * at, 2), 16)).ToArray();
}
