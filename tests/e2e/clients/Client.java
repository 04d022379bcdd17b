// Java's own client: WAY HOST PORT USER PASSWORD TRUSTSTORE URL...; prints a line for each fetch: seconds to the first byte, and the page.
// WAY is plain, http (java.net.http.HttpClient through a proxy) or socks (URLConnection, which takes SOCKS).
import java.io.InputStream;
import java.net.*;
import java.net.http.*;

public class Client {
    static String[] arguments;

    static HttpClient client() {
        HttpClient.Builder builder = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1);
        if (arguments[0].equals("http"))
            builder.proxy(ProxySelector.of(new InetSocketAddress(arguments[1], Integer.parseInt(arguments[2]))));
        if (!arguments[3].isEmpty())
            builder.authenticator(new Authenticator() {
                protected PasswordAuthentication getPasswordAuthentication() {
                    return new PasswordAuthentication(arguments[3], arguments[4].toCharArray());
                }
            });
        return builder.build();
    }

    static void fetch(HttpClient client, String url) throws Exception {
        long began = System.nanoTime();
        InputStream body;
        if (arguments[0].equals("socks")) {
            InetSocketAddress there = new InetSocketAddress(arguments[1], Integer.parseInt(arguments[2]));
            body = new URL(url).openConnection(new Proxy(Proxy.Type.SOCKS, there)).getInputStream();
        } else {
            HttpRequest request = HttpRequest.newBuilder(URI.create(url)).build();
            body = client.send(request, HttpResponse.BodyHandlers.ofInputStream()).body();
        }
        int first = body.read();
        double seconds = (System.nanoTime() - began) / 1e9;
        System.out.println(seconds + " " + (char) first + new String(body.readAllBytes()));
    }

    public static void main(String[] given) throws Exception {
        arguments = given;
        System.setProperty("javax.net.ssl.trustStore", given[5]);
        System.setProperty("javax.net.ssl.trustStorePassword", "changeit");
        System.setProperty("jdk.http.auth.tunneling.disabledSchemes", "");
        for (int i = 6; i < given.length; i++) {
            HttpClient kept = client();
            fetch(kept, given[i]);
            fetch(kept, given[i]);
            fetch(client(), given[i]);
        }
        System.exit(0);
    }
}
