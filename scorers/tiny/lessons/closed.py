"""Concepts that are lists: words of grammar, names, feelings, trades, signs and other languages."""

from __future__ import annotations

from collections.abc import Iterator

from glossator.scorers.tiny.lessons.concept import Concept, concept
from glossator.scorers.tiny.lessons.rules import words

_LISTS = """
grammar / modal verbs | modal auxiliaries | verbs that express possibility or obligation, like might and must / can could may might must shall should will would cannot
grammar / words that express doubt | hedges | expressions of uncertainty / perhaps maybe possibly probably apparently seemingly supposedly might presumably allegedly
grammar / articles | the definite and indefinite articles | determiners the, a and an / the a an
grammar / demonstratives | pointing words such as this and those | demonstrative pronouns and determiners / this that these those
grammar / possessive pronouns | words that show possession | possessive determiners such as my and their / my your his her its our their mine yours hers ours theirs whose
grammar / reflexive pronouns | pronouns ending in -self or -selves | self words / myself yourself himself herself itself ourselves yourselves themselves oneself
grammar / masculine pronouns | words for a male person | male pronouns / he him his himself
grammar / pronouns of the second person | words that address the reader | the pronoun you and its forms / you your yours yourself yourselves
grammar / plural pronouns | pronouns for several people / we us our ours they them their theirs
grammar / object pronouns | pronouns as objects / me him her us them it
grammar / indefinite pronouns | words like someone and anything | unspecified persons and things / someone somebody something anyone anybody anything everyone everybody everything nobody nothing
grammar / coordinating conjunctions | joining words such as and, or and but / and or but nor yet
grammar / subordinating conjunctions | words that begin a subordinate clause | clause-linking words such as although and while / because although though while whereas unless until since if whether
grammar / words of concession | contrast markers | signals of contrast such as nevertheless / although though nevertheless nonetheless despite however whereas yet
grammar / words that introduce a consequence | conclusion markers | words like therefore and thus / therefore thus hence consequently accordingly so
grammar / relative pronouns | words that begin a relative clause / who whom whose which that
grammar / prepositions | words such as in, of and at | short words of place, time and relation / of in to for with on at by from into about through over under between after before during without against
grammar / spatial prepositions | prepositions of place | words for spatial relations / in on under over above below behind beside between near inside outside beneath
grammar / temporal prepositions | prepositions of time | words that place something in time / before after during until since within throughout till
grammar / forms of the verb be | the verb to be | copulas such as is and were / is are was were be been being am
grammar / forms of have | the verb to have | have and its inflections / have has had having
grammar / forms of do | the auxiliary do | do and its inflections / do does did done doing
grammar / auxiliary verbs | helping verbs | verbs that support another verb / is are was were be been am have has had do does did will would can could should
grammar / quantifiers | words for an amount | expressions of quantity such as several and few / all some many few several most much more less any every each both
grammar / universal quantifiers | words for all without exception | absolute terms such as always and every / all every each always everyone everything entire whole never none
grammar / degree adverbs | intensifiers | words that strengthen what follows | intensifying adverbs / very really extremely quite so too incredibly absolutely totally completely highly pretty
grammar / adverbs of frequency | words for how often / always often sometimes usually rarely never frequently occasionally seldom regularly
grammar / adverbs that focus | limiting words such as only and just / only just merely simply even especially particularly
grammar / sequence words | words that order events | transitions such as first, next and finally / first second third next then finally lastly afterwards subsequently meanwhile
grammar / contractions | shortened forms with an apostrophe | contracted verbs / i'm you're it's that's he's she's we're they're i've you've we've i'll you'll he'll don't can't won't didn't isn't doesn't
grammar / contracted will | forms with 'll / i'll you'll he'll she'll it'll we'll they'll
grammar / contracted have | forms with 've / i've you've we've they've would've could've should've
grammar / negated auxiliaries with an apostrophe | verbs with n't / don't can't won't didn't isn't doesn't wasn't weren't couldn't wouldn't shouldn't haven't hasn't hadn't aren't
grammar / existential there | the words there and here / there here
grammar / interrogative adverbs | question words about place, time and manner / when where why how
speech / interjections | exclamations | outbursts such as oh and wow / oh wow ah hey ugh ouch hmm yeah haha lol omg
speech / greetings | words of greeting and parting | hello and goodbye words / hello hi hey goodbye bye welcome greetings farewell
speech / words of thanks and apology | polite expressions | courtesy words / thanks thank please sorry welcome grateful appreciate apologize excuse pardon
speech / agreement | words of assent | ways to say yes / yes yeah yep sure okay ok agreed indeed exactly absolutely
speech / informal words | slang and internet speech | casual spelling / lol gonna wanna gotta kinda dude guys stuff yeah cool omg btw awesome
speech / swear words | profanity | rude and vulgar words / damn hell shit fuck fucking ass bitch crap bastard
speech / filler words | hesitation | conversational fillers / well um uh er like actually basically anyway
sentiment / positive words | words of praise | positive sentiment | favourable judgements / great excellent wonderful amazing love best perfect beautiful fantastic awesome brilliant superb delightful enjoy enjoyed favorite
sentiment / negative words | words of blame | negative sentiment | unfavourable judgements / terrible awful bad worst horrible boring poor disappointing hate waste stupid ugly disgusting annoying weak mess
sentiment / words of joy | happiness | happy emotions / happy joy glad delighted smile smiled laugh laughed cheerful pleased excited fun
sentiment / words of sadness | grief and sorrow | sad emotions / sad tears cry cried crying grief sorrow mourning unhappy lonely depressed miserable
sentiment / words of fear | fright and worry | fearful emotions / afraid fear scared terrified worried anxious frightened panic horror nervous terror dread
sentiment / words of anger | rage | angry emotions / angry anger furious rage mad annoyed outraged hatred irritated hostile
sentiment / words of surprise | astonishment / surprised surprising shocked amazed astonished unexpected suddenly stunned
sentiment / words of love and affection | romance / love loved kiss kissed romantic darling affection dear heart hug adore passion
sentiment / words of conflict and violence | violent actions / kill killed fight fighting attack murder shot violence hit beat stab struck
people / female persons | words for women and girls | nouns for females / woman women girl girls lady wife mother daughter sister queen actress aunt grandmother mrs
people / male persons | words for men and boys | nouns for males / man men boy boys gentleman husband father son brother king actor uncle grandfather mr
people / given names of men | male first names | men's names such as John and David / john david james michael robert william george peter paul thomas charles richard joseph daniel mark tom jack henry sam
people / given names of women | female first names | women's names such as Mary and Anna / mary anna sarah elizabeth jane emma susan maria laura anne margaret alice kate jennifer lucy helen rachel
people / first names | given names of people / john mary david sarah james anna michael emma robert jane peter laura george alice tom kate jack lucy
people / surnames | last names | family names such as Smith and Johnson / smith johnson williams brown jones davis miller wilson taylor clark lewis walker hall young king wright scott green baker
people / titles before a name | honorifics | forms of address such as Mr and Dr / mr mrs ms dr sir lord lady professor prof miss captain rev
people / children and babies | young people | words for the young / child children kid kids baby boy girl toddler infant teen teenager
people / old people | words for age and the elderly / old elderly grandmother grandfather aged senior grandma grandpa aging
people / members of royalty | nobility | kings and queens / king queen prince princess duke emperor throne royal crown lord earl
people / groups of people | crowds and communities | collective nouns for people / people group crowd team community public population society audience family committee
people / health workers | people in medicine / doctor nurse surgeon physician dentist therapist doctors nurses paramedic
people / soldiers and officers | military ranks / soldier soldiers general captain colonel lieutenant sergeant officer commander admiral marines
people / criminals and police | law enforcement | crime / police thief criminal cop officer murderer suspect prisoner detective arrested robbery
people / students and teachers | people at school / student students teacher teachers professor pupil pupils tutor instructor classmates
places / names of countries | countries | nations of the world such as France and Japan / france germany japan china india russia canada mexico spain italy brazil australia england ireland iran iraq israel egypt
places / European countries | countries in Europe / france germany spain italy poland sweden norway greece portugal austria belgium netherlands england ireland
places / nationalities | adjectives of nationality | words such as French and Chinese | national adjectives / american british french german chinese japanese russian italian spanish english irish indian canadian mexican
places / names of cities | cities | city names such as London and Paris / london paris berlin rome tokyo chicago boston moscow madrid vienna york angeles dublin sydney toronto
places / American states | names of US states | U.S. states such as Texas / california texas florida ohio virginia georgia michigan illinois pennsylvania massachusetts oregon alaska washington
places / continents | names of large regions of the world / europe asia africa america antarctica australia
places / compass directions | cardinal points | words like northern and east / north south east west northern southern eastern western
places / rooms of a house | places in a home | kitchens, bedrooms and the like / kitchen bedroom bathroom room hall garage basement attic closet living
places / shops and restaurants | places of business / shop store restaurant bar cafe market mall hotel pub supermarket
places / streets and roads | ways to travel on / street road avenue highway lane path bridge route
time / seasons | spring, summer, autumn and winter | times of the year / spring summer autumn winter fall
time / times of day | parts of the day / morning afternoon evening night noon midnight dawn dusk tonight
time / units of time | lengths of time / second seconds minute minutes hour hours day days week weeks month months year years decade century
time / holidays | festivals | words such as Christmas and Easter / christmas easter thanksgiving halloween holiday holidays valentine festival
time / words for the present day | recency | current time / now today currently recent recently modern presently nowadays
time / words for the future | things to come / tomorrow future soon later upcoming eventually next
science / chemical elements | names of elements / oxygen hydrogen carbon nitrogen iron gold silver copper sodium helium lead zinc calcium
science / planets and space | astronomy | outer space / earth moon sun star stars planet planets mars venus jupiter galaxy space orbit universe
science / words of mathematics | mathematical terms / number equation function sum theorem proof variable matrix integer equal angle geometry
science / words of physics | physical quantities / energy force mass speed velocity gravity light heat electron pressure wave magnetic
science / words of biology | life science / cell cells gene genes species protein dna organism evolution bacteria tissue
science / research | scientific studies | words of scholarly papers / study research results data analysis experiment theory hypothesis evidence scientists researchers
science / units of measurement | measures | metres, pounds and other units / meter meters metre miles mile feet foot inch inches pound pounds kg km gallon degrees
things / vehicles | means of transport | cars, trains and other vehicles / car cars truck bus train plane bicycle bike boat ship motorcycle van taxi vehicle
things / clothes | garments | things to wear / shirt dress pants shoes hat coat jacket skirt jeans socks gloves boots suit clothes
things / furniture | pieces of furniture / chair table bed desk sofa couch shelf drawer cabinet bench
things / tools | hand tools / hammer knife saw screwdriver drill scissors rope nail nails wrench tool tools
things / electronic devices | gadgets / phone computer laptop camera tv television radio screen battery tablet
things / weapons | arms | guns, swords and other weapons / gun guns sword rifle bomb knife weapon weapons pistol missile bullet spear
things / musical instruments | instruments of music / guitar piano drums violin bass flute trumpet keyboard saxophone
things / materials | what things are made of / wood metal glass plastic paper stone leather cotton steel silk rubber
things / containers | vessels | boxes, bottles and bags / box bottle bag cup jar can bowl basket bucket bucket tin pot
things / shapes | geometric figures / circle square triangle line round rectangle cube sphere oval
arts / film and television | movies / film movie movies films director actor actors scene scenes cinema screen television episode plot
arts / books and writing | literature / book books novel author writer poem story chapter published wrote poetry fiction
arts / painting and sculpture | visual art / art painting artist paintings museum gallery portrait sculpture drawing
arts / dance and theatre | performance / dance theatre stage ballet play drama performance musical audience opera
money / currencies | units of money | names of currency / dollar dollars euro euros pound pounds yen cents cent franc
money / words of finance | banking and investment / stock stocks investment bank loan debt fund interest credit shares investors finance
money / words for work and jobs | employment / job jobs work worker workers employee employees hired career salary boss office
society / legal words | law and courts | terms of justice / court judge law lawyer trial jury legal case attorney crime guilty verdict sentence
society / elections and voting | political campaigns / election elections vote votes voters candidate campaign ballot polls
society / religions | faiths | names of religions and their followers / christian christianity muslim islam jewish buddhism hindu catholic protestant jews
society / words of immigration and race | ethnicity / immigrants immigration race racial ethnic black white refugees minority
society / words for family ties and marriage | weddings / marriage married wedding husband wife bride groom divorce
nature / trees and flowers | plants / tree trees flower flowers grass leaf leaves forest oak rose pine
nature / weather | words for the weather / rain snow wind storm sunny cloud clouds weather temperature fog hurricane
nature / natural disasters | catastrophes / earthquake flood hurricane tornado fire storm tsunami drought disaster
nature / pets and farm animals | domestic animals / dog dogs cat cats horse horses cow cows pig sheep chicken
nature / wild animals | beasts / lion tiger bear wolf fox deer elephant monkey snake
nature / fire and burning / fire burn burned flames smoke burning flame ash
nature / water and liquids | liquid things / water liquid river rain ocean wet drink pour flow
nature / light and darkness | bright and dark | visual brightness / light dark bright darkness shadow shine sun lamp glow
senses / sounds | words for noises | hearing / sound noise loud voice hear heard silence quiet bang whisper ring
senses / words of seeing | vision | looking and seeing / see look watch saw looked eyes view watched seen sight stare
senses / smells and tastes | flavours / smell taste sweet sour bitter scent flavor delicious salty
senses / colours in general | colour terms such as purple and grey / purple pink orange grey gray violet blue yellow red green
senses / texture and touch | how things feel / soft hard smooth rough touch wet dry sharp
body / illness symptoms | medical complaints / pain fever cough headache nausea fatigue rash swelling sore
body / organs | inner parts of the body / heart brain liver lung lungs kidney stomach blood bones
cooking / kitchen verbs | verbs of cooking | steps in a recipe / cook bake boil fry stir mix chop pour heat add serve
cooking / drinks | beverages / coffee tea water beer wine milk juice soda
cooking / spices and seasonings | flavourings in recipes / salt pepper garlic sugar cinnamon ginger basil sauce vanilla
computing / programming terms | software development / code function variable class method loop array string compile debug
computing / websites and internet companies | web services / google facebook twitter youtube amazon wikipedia reddit ebay yahoo
computing / parts of a computer screen | user interface words / click button menu screen window icon page select tab link
sports / team sports | kinds of sport / football baseball basketball soccer hockey rugby cricket volleyball
sports / words of the match | sporting contests / game season team players coach league goal championship scored match
sports / words of American football | NFL terms / touchdown quarterback yards pass nfl interception field kick kickoff
sports / exercise and fitness | physical training / exercise gym workout running training muscle weight yoga
mind / verbs of thinking | cognition verbs | mental states / think believe know understand remember realize consider wonder guess suppose
mind / verbs of wanting | desires | wishes and wants / want wanted wish hope desire need prefer
mind / words of learning and knowledge | knowing / learn knowledge know understand teach study learned
mind / words of certainty | assurance / certainly definitely surely clearly obviously undoubtedly sure certain
mind / verbs of perception | seeming and sensing / seem seemed appear appears look sound feel felt
action / verbs of giving and taking | transfer / give gave given take took taken receive received get got hand
action / verbs of beginning and ending | starting and stopping / start started begin began stop stopped end ended finish finished continue
action / verbs of change | becoming and turning / become became change changed turn turned grow increase decrease
action / verbs of destruction | breaking things / break broke destroy destroyed smash crush tear ruin damage
action / verbs of creation | making and building / make made build built create created produce design construct
action / verbs of standing and sitting | posture / stand stood sit sat lie lay lean kneel
action / verbs of looking for and finding | search / find found search look seek discover discovered lost
action / verbs of helping | assistance / help helped support assist aid save protect
action / verbs of quoting in writing | reported statements / wrote claimed argued suggested noted explained reported stated added according
size / words for large size | bigness | big things / big large huge enormous giant great massive vast
size / words for small size | smallness / small little tiny short minor slight
size / words for speed | fast and slow / fast quick quickly slow slowly rapid rapidly speed
size / words for distance | near and far / near far close distance away long
size / comparisons | words that compare / more less than better worse larger smaller as like same
number / number words | numbers spelt out | cardinal numbers in words, twelve and twenty among them / one two three four five six seven eight nine ten eleven twelve twenty thirty hundred thousand million
number / ordinals | ordinal words | rank words like second and fifth / first second third fourth fifth sixth seventh eighth ninth tenth
number / large numbers in words | millions and billions / hundred thousand million billion trillion hundreds thousands millions
number / fractions | parts of a whole such as half / half third quarter percent double twice dozen pair
language / French words | words of French / le la les des une est dans pour avec sur que qui du et je
language / Spanish words | words of Spanish / el los las una por para con que como del pero muy
language / German words | words of German / der die das und ist nicht ein eine mit von auf ich
language / names of languages | languages such as Latin and Spanish / english french german spanish latin greek chinese japanese arabic hebrew russian
language / words about grammar and words | language itself / word words language sentence noun verb grammar phrase meaning speak
signs / commas and semicolons | punctuation inside a sentence / , ;
signs / full stops | periods | the end of a sentence, marked by a period | sentence-final periods / .
signs / question marks | the sign ? | punctuation of questions / ?
signs / exclamation marks | the sign ! / !
signs / quotation marks | opening and closing quotes | speech marks / " \u201c \u201d
signs / apostrophes | single quotes / ' \u2019 \u2018
signs / hyphens and dashes | dashes | the characters - and \u2014 / - \u2013 \u2014
signs / colons | the character : / :
signs / brackets of all kinds | opening and closing brackets / ( ) [ ] { }
signs / opening brackets | opening parentheses / ( [
signs / currency symbols | dollar and pound signs / $ \u00a3 \u20ac
signs / mathematical signs | plus, equals and the like / + = < > * ^ %
signs / asterisks and bullets | list markers / * \u2022 -
signs / ampersands and at signs | the signs & and @ / & @
signs / punctuation | punctuation marks of any kind / . , ; : ! ? " ' ( ) -
signs / sentence-ending punctuation | marks that end a sentence / . ! ?
"""  # noqa: E501


def closed_concepts() -> Iterator[Concept]:
    """One concept a line; those of a family are near misses of each other."""
    for line in _LISTS.strip().splitlines():
        family, phrases, members = line.split(" / ", 2)
        listed = words(members)
        found = concept(family, phrases, listed)
        some = members.split()
        extra: tuple[str, ...] = ()
        if family != "signs" and len(some) > 3:
            first = found.phrases[0]
            extra = (
                f"{first} such as {some[0]}, {some[1]} and {some[2]}",
                f"{first} ({', '.join(some[1:5])})",
                f"{first}, e.g. {some[2]} or {some[-1]}",
            )
        yield Concept(family, found.name, (*found.phrases, *extra), listed, found.kin)
