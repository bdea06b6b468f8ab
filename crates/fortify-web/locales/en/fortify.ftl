# What a visitor reads. Identifiers are used by templates/ and by the code; a test holds them together.

challenge-title = A quick check
challenge-intro = This site asks every new visitor to read one picture, to keep automated traffic out. No scripts are needed.
challenge-wrong = That was not right, or it took too long. Here is a new one.
challenge-gone = That page was out of date, so your answer did not count. Please answer this picture.
challenge-tries = { $count ->
    [one] One wrong answer counts
   *[other] { $count } wrong answers count
} so far. Another one means a wait of { $time }.
challenge-tries-free = { $count ->
    [one] One wrong answer counts
   *[other] { $count } wrong answers count
} so far. Another one means another picture, without a wait.
challenge-another = Here is another picture.
challenge-next-stage = That was right. Here is the next one.
challenge-outdated = That was right. The site has become stricter since that picture was drawn, so here is one more.
challenge-unverifiable = This site lost some of its records and cannot tell which earlier checks still count. Please solve one more picture. You did nothing wrong.
challenge-stage = Picture { $stage } of { $stages }
challenge-moves = This picture moves. Look at the whole of it for a moment, and what it shows stands out.
challenge-stripes = What this picture shows is where its stripes change direction.
challenge-picture = Picture with the question’s answer
challenge-submit = Continue
challenge-show-another = Show another picture
challenge-show-still = Show one that does not move
challenge-show-letters = Show letters instead
challenge-hint-choice = The picture is good for { $minutes ->
    [one] one minute
   *[other] { $minutes } minutes
}.
challenge-hint = Capital and small letters count the same. The picture is good for { $minutes ->
    [one] one minute
   *[other] { $minutes } minutes
}.
challenge-form-kept = The form that you sent waits here and goes on after the check.
challenge-form-not-kept = What you sent was not delivered and is not kept here. After the check, please send it again.

question-distorted-text = Type the { $count } characters that you see
question-distorted-text-choice = Which characters do you see?
question-arithmetic = Type the result of the calculation
question-arithmetic-choice = What is the result of the calculation?
question-letters-over = Type the letters and digits over the { $object }
question-letters-over-choice = Which letters and digits are over the { $object }?
question-letters-over-each = Type the letter or digit over the { $first }, then the one over the { $second }, then the one over the { $third }
question-letters-over-each-choice = Which letters and digits are over the { $first }, the { $second } and the { $third }, in this order?
question-which-object = Which object is { $colour }?
question-next-shape = Which shape belongs in the frame with the question mark?
question-next-colour = Which colour belongs in the frame with the question mark?
question-next-count = How many shapes belong in the frame with the question mark?
question-next-direction = Where does the arrow point that belongs in the frame with the question mark? Type for example “up” or “down left”
question-next-direction-choice = Where does the arrow point that belongs in the frame with the question mark?
question-next-two = Two frames have a question mark. Type the { $upper } for the upper one, then the { $lower } for the lower one. Separate them with a space
question-next-two-choice = Two frames have a question mark. Which { $upper } belongs in the upper one, and which { $lower } in the lower one?
question-which-colours = { $count ->
    [one] In which colour is the word drawn? Not what it says
   *[other] In which colours are the words drawn, from top to bottom? Not what they say. Separate the colours with a space
}
question-which-words = { $count ->
    [one] Which word is drawn? Not its colour
   *[other] Which words are drawn, from top to bottom? Not their colours. Separate the words with a space
}
question-words-on = Type the word written on { $first }, then the word written on { $second }. Not the colours. Separate the words with a space
question-words-on-choice = Which word is written on { $first }, and which on { $second }?

aspect-shape = shape
aspect-colour = colour
aspect-direction = direction
aspect-count = number

shape-circle = circle
shape-square = square
shape-triangle = triangle
shape-star = star
shape-diamond = diamond
shape-cross = cross
shape-heart = heart
shape-moon = moon

colour-red = red
colour-orange = orange
colour-yellow = yellow
colour-green = green
colour-blue = blue
colour-purple = purple
colour-pink = pink
colour-white = white
colour-black = black
colour-brown = brown
colour-grey = grey

direction-up = up
direction-up-right = up right
direction-right = right
direction-down-right = down right
direction-down = down
direction-down-left = down left
direction-left = left
direction-up-left = up left

object-airplane = AIRPLANE
object-anchor = ANCHOR
object-axe = AXE
object-backpack = BACKPACK
object-balloon = BALLOON
object-bed = BED
object-bell = BELL
object-bicycle = BICYCLE
object-bird = BIRD
object-bone = BONE
object-book = BOOK
object-boot = BOOT
object-bus = BUS
object-butterfly = BUTTERFLY
object-cactus = CACTUS
object-cake = CAKE
object-camera = CAMERA
object-car = CAR
object-carrot = CARROT
object-castle = CASTLE
object-cat = CAT
object-chair = CHAIR
object-cheese = CHEESE
object-cherries = CHERRIES
object-church = CHURCH
object-clock = CLOCK
object-cow = COW
object-crown = CROWN
object-cup = CUP
object-dog = DOG
object-dress = DRESS
object-envelope = ENVELOPE
object-eye = EYE
object-fish = FISH
object-flag = FLAG
object-flower = FLOWER
object-ghost = GHOST
object-glasses = GLASSES
object-guitar = GUITAR
object-hammer = HAMMER
object-hand = HAND
object-hat = HAT
object-headphones = HEADPHONES
object-heart = HEART
object-hourglass = HOURGLASS
object-house = HOUSE
object-key = KEY
object-ladder = LADDER
object-lamp = LAMP
object-leaf = LEAF
object-lightbulb = LIGHTBULB
object-lightning = LIGHTNING
object-lock = LOCK
object-magnet = MAGNET
object-moon = MOON
object-mountains = MOUNTAINS
object-palm = PALM
object-pencil = PENCIL
object-pig = PIG
object-pizza = PIZZA
object-rabbit = RABBIT
object-rainbow = RAINBOW
object-robot = ROBOT
object-rocket = ROCKET
object-sailboat = SAILBOAT
object-scissors = SCISSORS
object-shirt = SHIRT
object-shoe = SHOE
object-skull = SKULL
object-snowflake = SNOWFLAKE
object-sock = SOCK
object-sofa = SOFA
object-star = STAR
object-sun = SUN
object-sword = SWORD
object-tent = TENT
object-tooth = TOOTH
object-tractor = TRACTOR
object-train = TRAIN
object-tree = TREE
object-trophy = TROPHY
object-trousers = TROUSERS
object-truck = TRUCK
object-umbrella = UMBRELLA
object-watch = WATCH
object-windmill = WINDMILL
object-wineglass = WINEGLASS
object-wrench = WRENCH

resume-title = One more step
resume-text = Thank you. Press the button to send your form on.
resume-submit = Send my form

wait-title = Please wait
wait-retry = Try again
wait-text = There were too many wrong answers. You can try again in { $time }, and this page goes on by itself then.
many-text = You asked for many pictures in a short time. You can go on in { $time }, and this page goes on by itself then.
queue-title = You are in line
queue-text = Many people are coming in right now. { $ahead ->
    [0] You are next
    [one] One visitor is before you
   *[other] { $ahead } visitors are before you
}; it takes about { $time }. This page goes on by itself.
queue-draw = So many people are coming in right now that places in the line are drawn. { $odds ->
    [one] Everybody gets a place soon
   *[other] One visitor in { $odds } gets a place, drawn again every { $seconds } seconds
}. This page goes on by itself; leave it open.
time-seconds = { $seconds ->
    [one] one second
   *[other] { $seconds } seconds
}
time-minutes = { $minutes ->
    [one] one minute
   *[other] { $minutes } minutes
}

moment-title = One moment
moment-text = This page goes on by itself. If it does not, use the link.
moment-link = Continue

cookies-title = Cookies are off
cookies-text = This site needs one cookie to let you in, and your browser did not send it back. Allow cookies for this site, then try again.
cookies-retry = Try again

left-title = You have left
left-text = Your session on this site has ended.
left-link = Back to the site

slow-title = Too many requests
slow-text = This site was asked for many pages in a short time. You can go on in { $time }, and this page goes on by itself then.
slow-form-text = This site was asked for many pages in a short time, and what you sent was not delivered. Wait { $time }, then reload this page to send it again.
slow-throttled-text = This connection has passed as many checks as it may for now, so it is slower for the next { $time }. In Tor Browser, “New Tor circuit for this site” gives you another one.
slow-program-text = Too many requests. Send this one again in { $time }.
required-program-text = A challenge has to be solved first. Load a page of this site in a browser, or use POST /captcha/generate and POST /verify-captcha, and send the request again.

refused-title = Check needed
refused-text = Open a page of this site in your browser first.
bad-request-title = This request could not be read
bad-request-text = Go back and try again.
not-found-title = Not found
not-found-text = There is nothing at this address.
method-title = Not possible here
method-text = This address does not take that kind of request.
too-large-title = Too large
too-large-text = What was sent is larger than this address takes.
too-slow-title = Too slow
too-slow-text = What you sent did not arrive in time. Please try again.
unavailable-title = Not available right now
unavailable-text = The site cannot answer at the moment. Please try again shortly.
maintenance-title = The site is being worked on
maintenance-text = The people who run this site are working on it and will be back soon. This page goes on by itself then.
busy-title = The site is very busy
busy-text = More is asked of this site right now than it can answer. This page goes on by itself in a moment.
down-title = The site is down
down-text = The service behind this address is not running at the moment. This page goes on by itself as soon as it is back; there is nothing that you need to do.
gateway-title = The site does not answer
gateway-text = The service behind this address gave no answer. Please try again shortly.
